// SPDX-License-Identifier: GPL-2.0
//! The sending half of a connection.

use socket2::SockRef;
use std::io;
use std::net::Shutdown;
use std::time::Duration;
use tap::net::Sender;
use tap::op::{self, Fd};
use tap::Buf;

/// The sending half of a connection.
pub struct Socket {
    pub(super) sender: Sender,
    pub(super) fd: Fd,
}

impl Socket {
    /// Ends the connection at once, with whatever is on its way: what was sent, but has not left
    /// this machine, must not get to the server after what the next connection brings there.
    pub(super) fn cut(&self) {
        let socket = SockRef::from(&*self.fd);
        let _ = socket.set_linger(Some(Duration::ZERO));
        let _ = socket.shutdown(Shutdown::Both);
    }

    /// Sends all of it, or ends the connection: half a request would make the next one a part of it.
    pub(super) async fn send(&self, head: &[u8], body: Option<&Buf>) -> io::Result<()> {
        let head = Buf::copy_of(head);
        let fd = self.sender.quiet().await;
        let whole = CutUnlessWhole(Some(self));
        for (buf, more) in [(Some(&head), body.is_some()), (body, false)] {
            let Some(buf) = buf else { continue };
            let mut done = 0;
            while done < buf.len() {
                done += op::send(&fd, &buf.part(done..), more).await?;
            }
        }
        whole.done();
        Ok(())
    }
}

struct CutUnlessWhole<'a>(Option<&'a Socket>);

impl CutUnlessWhole<'_> {
    fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for CutUnlessWhole<'_> {
    fn drop(&mut self) {
        if let Some(socket) = self.0 {
            socket.cut();
        }
    }
}

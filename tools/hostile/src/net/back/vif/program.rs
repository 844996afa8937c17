// SPDX-License-Identifier: GPL-2.0
//! XDP programs of the guest's, and the frames that they decide on.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Sent, Vif};
use crate::net::frames::{self, Frame};
use crate::nodes::CONNECTED;
use crate::{ensure, Result};

pub(crate) const RECONFIGURING: u64 = 7;
pub(crate) const RECONFIGURED: u64 = 8;

impl Vif {
    /// Starts what the guest is to do.
    pub(crate) fn start(&mut self, what: &str) -> Result<Child> {
        let command = self.program.as_ref().ok_or("there is no --program")?;
        Ok(Command::new("/bin/sh")
            .arg("-c")
            .arg(command.replace('@', what))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?)
    }

    /// Says to the guest that it has been heard, if it waits for that.
    pub(crate) fn heard(&mut self) -> Result {
        if self.their_state()? == RECONFIGURING {
            self.set_state(RECONFIGURED)?;
            self.await_their_state(CONNECTED)?;
            self.set_state(CONNECTED)?;
        }
        Ok(())
    }

    /// As [`Vif::await_state`], without serving.
    fn await_their_state(&mut self, state: u64) -> Result {
        let until = Instant::now() + self.timeout;
        while self.their_state()? != state {
            ensure!(
                Instant::now() < until,
                "the front end does not go to {state}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Whether the child has ended: what it has printed, which is to be a number or nothing.
    pub(crate) fn ended(&mut self, child: &mut Child) -> Result<Option<u32>> {
        let Some(status) = child.try_wait()? else {
            return Ok(None);
        };
        ensure!(status.success(), "the guest cannot do it: {status}");
        let text = match child.stdout.take() {
            Some(out) => std::io::read_to_string(out)?,
            None => String::new(),
        };
        match text.trim() {
            "" => Ok(Some(0)),
            text => Ok(Some(text.parse()?)),
        }
    }

    /// Has the guest do it, and tells what it has printed. Nothing is answered meanwhile.
    pub(crate) fn told(&mut self, what: &str) -> Result<u32> {
        let mut child = self.start(what)?;
        let until = Instant::now() + self.timeout + Duration::from_secs(5);
        loop {
            let ended = self.ended(&mut child);
            if let Some(number) = ended.map_err(|e| format!("{what}: {e}"))? {
                return Ok(number);
            }
            self.heard()?;
            if Instant::now() >= until {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("the guest does not end to {what}").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Has the guest attach the program, and tells the interface's number. It waits for a second only
    /// until it is heard, which on a busy machine may be too short.
    pub(crate) fn attached(&mut self) -> Result<u32> {
        let until = Instant::now() + self.timeout;
        loop {
            match self.told("attach") {
                Err(e) if Instant::now() >= until => return Err(e),
                Err(_) => {}
                Ok(number) => return Ok(number),
            }
        }
    }

    /// The next frame of those that a program has sent, not answered, and its bytes. Whatever else comes
    /// is answered.
    pub(crate) fn sent_by_program(&mut self) -> Result<Option<(Sent, Vec<u8>)>> {
        while let Some(sent) = self.next()? {
            let frame = self.copy(&sent)?;
            if frames::parse(&frame) == Frame::Other(frames::PROGRAM) {
                return Ok(Some((sent, frame)));
            }
            self.frames.push_back(frame);
            self.answer(&sent, 0)?;
        }
        Ok(None)
    }

    /// As that, waits for one.
    pub(crate) fn await_program(&mut self) -> Result<(Sent, Vec<u8>)> {
        let until = Instant::now() + self.timeout;
        loop {
            if let Some(sent) = self.sent_by_program()? {
                return Ok(sent);
            }
            ensure!(Instant::now() < until, "the program sends nothing");
            self.wait(Duration::from_millis(2));
        }
    }

    /// Waits until the guest has looked at all that was sent to it.
    pub(crate) fn seen(&mut self) -> Result {
        use protocol::ring::index::RSP_EVENT;
        let until = Instant::now() + self.timeout;
        loop {
            let rx = &self.queue()?.rx;
            if rx.page.load(RSP_EVENT) == rx.prod.wrapping_add(1) {
                return Ok(());
            }
            ensure!(Instant::now() < until, "the guest does not look");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// [`Vif::verify`], but by packets of one part, as a program takes them.
    pub(crate) fn verify_by_program(&mut self) -> Result {
        self.find_guest()?;
        self.echo(1400, &[])
    }
}

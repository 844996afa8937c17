// SPDX-License-Identifier: GPL-2.0
//! `serve`: a chain by NBD, or as a block device.

use super::{whole_chain, Stop};
use crate::chain::Registry;
use crate::log::Log;
use crate::net::Address;
use crate::{nbd, rt, ublk};
use std::io;
use std::sync::Arc;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    to: To,
    /// What to serve; see `extensions`
    chain: String,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct To {
    /// To NBD clients: the absolute path of a socket, or HOST:PORT, where to listen
    #[arg(long, value_name = "ADDRESS")]
    nbd: Option<Address>,
    /// To this machine, as a block device: /dev/ublkbN, which is said in the log
    #[arg(long)]
    ublk: bool,
}

pub(super) fn main(registry: &Arc<Registry>, args: Args) -> io::Result<()> {
    let chain = whole_chain(registry, &args.chain)?;
    let stop = Stop::new()?;
    rt::run(async move {
        let log = Log::new(chain.text());
        let disk = chain.open(None).await?;
        let size = disk.info().size;
        let (to, stop) = (disk.clone(), stop.wait());
        match args.to.nbd {
            Some(address) => {
                let listener = address.listen()?;
                let port = listener.port().map(|port| format!(" (port {port})"));
                let port = port.unwrap_or_default();
                log.info(format_args!("{size} bytes, listening at {address}{port}"));
                nbd::serve(to, listener, log.clone(), stop).await?;
            }
            None => {
                let ready = |path: &str| log.info(format_args!("{size} bytes, as {path}"));
                ublk::serve(to, log.clone(), ready, stop).await?;
            }
        }
        disk.flush().await?;
        disk.close().await?;
        log.info("stopped");
        Ok(())
    })?
}

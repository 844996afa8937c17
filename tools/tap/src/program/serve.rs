// SPDX-License-Identifier: GPL-2.0
//! `serve`: a chain by NBD.

use super::{whole_chain, Stop};
use crate::chain::Registry;
use crate::log::Log;
use crate::net::Address;
use crate::{nbd, rt};
use std::io;
use std::sync::Arc;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Where to listen: the absolute path of a socket, or HOST:PORT
    #[arg(long, value_name = "ADDRESS")]
    nbd: Address,
    /// What to serve; see `extensions`
    chain: String,
}

pub(super) fn main(registry: &Arc<Registry>, args: Args) -> io::Result<()> {
    let chain = whole_chain(registry, &args.chain)?;
    let stop = Stop::new()?;
    rt::run(async move {
        let log = Log::new(chain.text());
        let disk = chain.open(None).await?;
        let listener = args.nbd.listen()?;
        let port = listener.port().map(|port| format!(" (port {port})"));
        let port = port.unwrap_or_default();
        log.info(format_args!(
            "{} bytes, listening at {}{port}",
            disk.info().size,
            args.nbd
        ));
        nbd::serve(disk.clone(), listener, log.clone(), stop.wait()).await?;
        disk.flush().await?;
        disk.close().await?;
        log.info("stopped");
        Ok(())
    })?
}

// SPDX-License-Identifier: GPL-2.0
//! Makes a stale leg well again, and forgets what was written long ago.

use super::Legs;
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;
use tap::{rt, Buf};

/// So many regions are copied before a flush.
const BATCH: usize = 32;
/// Bytes that are copied at once.
const STEP: u64 = 1 << 20;

impl Legs {
    /// Resyncs whatever is stale, for ever.
    pub(super) async fn resync(self: Rc<Self>) {
        loop {
            let any = || (self.map.stale(0) + self.map.stale(1) > 0).then_some(());
            self.changed.until(any).await;
            for leg in 0..2 {
                if self.map.stale(leg) == 0 {
                    continue;
                }
                let name = self.names[leg];
                if !self.resyncing[leg].replace(true) {
                    let count = self.map.stale(leg);
                    self.log
                        .info(format_args!("resync of {name} begins, of {count} regions"));
                }
                match self.batch(leg).await {
                    Ok(()) if self.map.stale(leg) == 0 => {
                        self.resyncing[leg].set(false);
                        self.log.info(format_args!("{name} is in sync"));
                    }
                    Ok(()) => (),
                    Err(error) => {
                        self.log.error(&format!("resync of {name}"), &error);
                        rt::sleep(self.settings.retry).await;
                    }
                }
            }
        }
    }

    /// Copies some regions to `leg`. If it has failed, the first shows whether it is back.
    async fn batch(&self, leg: usize) -> io::Result<()> {
        self.copied[leg].borrow_mut().clear();
        let (mut from, mut worst) = (0, Ok(()));
        for _ in 0..BATCH {
            let Some(region) = self.map.next_stale(leg, from) else {
                break;
            };
            from = region + 1;
            if self.map.is_stale(1 - leg, region) {
                continue;
            }
            match self.copy(leg, region).await {
                Ok(()) => self.failed[leg].set(false),
                Err((from, error)) => {
                    worst = Err(error);
                    if from == leg {
                        self.failed[leg].set(true);
                        break;
                    }
                }
            }
        }
        if let Err(error) = self.legs[leg].flush().await {
            if !self.unflushed(leg, &error) {
                self.lost.set(true);
            }
            return Err(error);
        }
        let copied: BTreeSet<u64> = self.copied[leg].take();
        for region in copied {
            self.map.set_fresh(leg, region);
        }
        self.map.save_all().await?;
        worst
    }

    /// Copies a region to `leg`; in an error's stead also says which leg it is of.
    async fn copy(&self, leg: usize, region: u64) -> Result<(), (usize, io::Error)> {
        let bytes = self.map.bytes(region);
        let wait = self.pace(bytes.end - bytes.start);
        if !wait.is_zero() {
            rt::sleep(wait).await;
        }
        let _alone = self.ranges.lock(bytes.clone()).await;
        let mut at = bytes.start;
        while at < bytes.end {
            let mut buf = Buf::new((bytes.end - at).min(STEP) as usize);
            let len = buf.len() as u64;
            let read = self.legs[1 - leg].read(at, &mut buf).await;
            read.map_err(|error| (1 - leg, error))?;
            let written = self.legs[leg].write(at, &buf, false).await;
            written.map_err(|error| (leg, error))?;
            at += len;
        }
        // From here on writes go to both again; one that fails takes it out.
        self.failed[leg].set(false);
        self.copied[leg].borrow_mut().insert(region);
        Ok(())
    }

    /// Forgets, for ever, regions that nobody writes to any more.
    pub(super) async fn settle(self: Rc<Self>) {
        loop {
            rt::sleep(self.settings.settle).await;
            let quiet: Vec<u64> = {
                let mut active = self.active.borrow_mut();
                active.retain(|_, active| active.count > 0 || std::mem::take(&mut active.touched));
                let written = self.map.written();
                written
                    .into_iter()
                    .filter(|region| !active.contains_key(region))
                    .collect()
            };
            if !quiet.is_empty() {
                self.forget(&quiet).await;
            }
        }
    }

    /// Settles those of `regions` that are not written to while both legs are flushed.
    pub(super) async fn forget(&self, regions: &[u64]) {
        if self.failed.iter().any(|failed| failed.get()) {
            return;
        }
        if self.flush_legs().await.is_err() {
            // A guest has to be told.
            self.lost.set(true);
            return;
        }
        if self.failed.iter().any(|failed| failed.get()) {
            return;
        }
        let active = self.active.borrow();
        for region in regions.iter().filter(|region| !active.contains_key(region)) {
            self.map.set_settled(*region);
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! From what the back end says to a disk: rings are made, the disk is, its size and limits change.

use crate::{
    connect::{self, Offer},
    mq::{Config, Disk, Limits, Minors, TagSet},
    queue::Queues,
    transport::Access,
    Blkfront, Closing, State,
};
use kernel::prelude::*;
use xenbus::{
    noio,
    prelude::*,
    protocol::{blkif::MAX_SEGMENTS, negotiate::BadKey, vdev::XENVBD_MAJOR},
};

impl Blkfront {
    /// Makes the rings and tells the back end.
    pub(crate) fn publish(&self, dev: &Device<Core>) -> Result {
        let published = noio::scope(|| connect::publish_rings(dev, &self.queues));
        let published = published.inspect_err(|e| {
            dev.fatal(*e, fmt!("setting up the rings"));
        })?;
        self.state.lock().published = Some(published);
        dev.switch_state(XenbusState::Initialised)
    }

    /// Goes live: the back end has taken the rings and says what the disk is like.
    pub(crate) fn connect(&self, dev: &Device<Core>) -> Result {
        let published = self.state.lock().published.ok_or(EINVAL)?;
        let offer = connect::read_offer(dev, &published).map_err(|bad| bad_key(dev, bad))?;
        let known = {
            let mut state = self.state.lock();
            if state.disk.is_some() && offer.disk.sector_size != state.sector_size {
                let (old, new) = (state.sector_size, offer.disk.sector_size);
                drop(state);
                dev.fatal(EINVAL, fmt!("sectors of {new} bytes, not {old} as before"));
                return Err(EINVAL);
            }
            state.flush = offer.flush;
            state.discard = offer.discard;
            state.max_segments = offer.indirect.max(MAX_SEGMENTS as u16);
            state.disk.clone()
        };
        self.queues.set_cdrom(offer.disk.cdrom);
        match known {
            // The disk of before a migration.
            Some(disk) => {
                self.state.lock().todo.limits = true;
                disk.set_capacity(offer.disk.sectors);
                disk.set_read_only(offer.disk.read_only);
            }
            None => self.make_disk(&offer).inspect_err(|e| {
                dev.fatal(*e, fmt!("making the disk {}", self.name.as_str()));
            })?,
        }
        self.queues
            .shared()
            .features()
            .set(offer.flush, offer.discard);
        noio::scope(|| self.queues.go_live(offer.access, offer.indirect)).inspect_err(|e| {
            dev.fatal(*e, fmt!("getting ready for requests"));
        })?;
        dev.switch_state(XenbusState::Connected)?;
        self.queues.shared().queue_chore();
        Ok(())
    }

    fn make_disk(&self, offer: &Offer) -> Result {
        let minors = Minors::new(self.vdev.minor, self.vdev.minors)?;
        let config = Config {
            name: self.name.as_str(),
            major: XENVBD_MAJOR,
            first_minor: self.vdev.minor,
            minors: self.vdev.minors,
            capacity: offer.disk.sectors,
            read_only: offer.disk.read_only,
            removable: offer.disk.removable,
            block_size: (offer.disk.sector_size, offer.disk.physical_sector_size),
            limits: self.state.lock().limits(),
        };
        let (rings, entries) = self.queues.rings();
        let tags = Arc::pin_init(TagSet::new(rings, entries), GFP_KERNEL)?;
        self.queues.set_known(rings, entries);
        let disk = Disk::new(&config, tags.clone(), self.queues.clone())?;
        self.queues.set_wakeup(disk.queue()?)?;
        let disk = Arc::new(disk, GFP_KERNEL)?;

        dev_info!(
            self.dev().dev(),
            "{}: {} sectors, flush: {:?}, {} of {} requests, segments: {}, {}\n",
            self.name.as_str(),
            offer.disk.sectors,
            offer.flush,
            match rings {
                1 => "ring",
                _ => "rings",
            },
            entries,
            config.limits.max_segments,
            match offer.access {
                Access::Direct => "pages granted",
                Access::Persistent => "persistent grants",
                Access::Bounce => "back end not trusted",
            },
        );
        let mut state = self.state.lock();
        state.disk = Some(disk);
        state.tags = Some(tags);
        state.minors = Some(minors);
        state.sector_size = offer.disk.sector_size;
        state.todo.add = true;
        Ok(())
    }

    /// The back end says `Connected` again: the size may have changed.
    pub(crate) fn resize(&self, dev: &Device<Core>) -> Result {
        let (disk, sector_size) = {
            let state = self.state.lock();
            if state.closing == Closing::Done {
                return Ok(());
            }
            (state.disk.clone(), state.sector_size)
        };
        // A size that cannot be is no reason to lose the disk as it is.
        if let (Some(disk), Ok(sectors)) = (disk, connect::read_capacity(dev, sector_size)) {
            disk.set_capacity(sectors);
        }
        Ok(())
    }

    /// Shows the disk to everybody.
    pub(crate) fn add(&self, disk: &Disk<Queues>) {
        let added = disk.add(self.dev().dev());
        let mut state = self.state.lock();
        state.ready = true;
        if let Err(e) = added {
            state.closing = Closing::Lost;
            drop(state);
            self.dev().fatal(e, fmt!("adding {}", self.name.as_str()));
        }
    }

    /// Tells the block layer what requests may be like, if that has changed.
    pub(crate) fn set_limits(&self, disk: &Disk<Queues>, changed: bool) {
        let features = self.queues.shared().features();
        let revoked = features.take_revoked();
        if !revoked && !changed {
            return;
        }
        let (limits, tags) = {
            let mut state = self.state.lock();
            if revoked {
                if state.flush.flush() && !features.flush().flush() {
                    dev_warn!(self.dev().dev(), "the back end does not flush any more\n");
                }
                if state.discard.is_some() && !features.can_discard(false) {
                    dev_warn!(self.dev().dev(), "the back end does not discard any more\n");
                    state.discard = None;
                }
                state.flush = features.flush();
            }
            (state.limits(), state.tags.clone())
        };
        if let Err(e) = disk.set_limits(&limits) {
            dev_warn!(self.dev().dev(), "changing the limits of requests: {e:?}\n");
        }
        let (rings, _) = self.queues.rings();
        let (known, tags) = (self.queues.known(), tags.filter(|_| changed));
        if let (Some(tags), true) = (tags, rings != known) {
            self.queues.set_known_queues(tags.set_queues(rings));
        }
    }
}

impl State {
    fn limits(&self) -> Limits {
        Limits {
            write_cache: self.flush.flush(),
            fua: self.flush.fua(),
            max_segments: self.max_segments,
            discard: self.discard,
        }
    }
}

/// Says what is wrong with the back end's description of the disk.
fn bad_key(dev: &Device, bad: BadKey) -> Error {
    match bad.value {
        Some(value) => dev.fatal(EINVAL, fmt!("the back end's {} is {value}", bad.key)),
        None => dev.fatal(EINVAL, fmt!("the back end's {} is missing", bad.key)),
    }
    EINVAL
}

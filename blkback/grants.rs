// SPDX-License-Identifier: GPL-2.0

//! The guest's pages, as one ring holds them.
//!
//! A page is mapped for a request and unmapped after it; or kept mapped for the requests to come
//! (persistent grants), if both ends have said so and there is room. A page that is kept is used by
//! one request at a time: if a front end names it twice, it is mapped a second time for the second
//! one. Whatever fails, each page is held by one value, which gives it back (XSA-371).

use crate::{bio, bio::params};
use kernel::{page::BorrowedPage, sync::UniqueArc, time::msecs_to_jiffies};
use xenbus::{
    kthread::jiffies,
    map::{Copied, Mapped, Mapper},
    prelude::*,
    protocol::kept::{Entry, Kept, Place, Taken},
    region::Region,
};

/// A page in use by a request.
pub(crate) enum Held {
    /// It is kept mapped.
    Kept(Place, Arc<Mapped>),
    /// It is mapped for this request.
    Own(Mapped),
    /// It is no guest's: this page of a tap's region.
    Region(Arc<Region>, u32),
    /// It is in the batch that is mapped next; or it could not be mapped.
    Not,
}

impl Held {
    /// The page, if it is mapped.
    #[inline]
    pub(crate) fn page(&self) -> Option<BorrowedPage<'_>> {
        match self {
            Held::Kept(_, mapped) => mapped.page(),
            Held::Own(mapped) => mapped.page(),
            Held::Region(region, index) => region.page(*index as usize).ok(),
            Held::Not => None,
        }
    }

    /// The page `index` of a region, which has memory then.
    ///
    /// # Errors
    ///
    /// Those of [`Region::page`].
    pub(crate) fn region(region: &Arc<Region>, index: usize) -> Result<Self> {
        region.page(index)?;
        Ok(Held::Region(region.clone(), index as u32))
    }
}

/// The table of the pages that are kept.
type Table = Kept<KVec<Entry<Arc<Mapped>>>>;

/// How often the table is looked through, in milliseconds.
const PURGE_MS: u32 = 100;

/// The pages of a ring. Belongs to its thread.
pub(crate) struct Grants {
    mapper: Mapper,
    kept: Option<Table>,
    next_purge: u64,
    list: Copied,
}

impl Grants {
    /// For pages of domain `domid`; `persistent`: as many as the module's parameter says now, and
    /// 65535 at most, may be kept mapped.
    pub(crate) fn new(domid: u16, persistent: bool) -> Result<Self> {
        let kept = if persistent {
            let room = params::max_persistent_grants().min(usize::from(u16::MAX));
            let mut entries = KVec::with_capacity(room, GFP_KERNEL)?;
            for _ in 0..room {
                entries.push(Entry::default(), GFP_KERNEL)?;
            }
            Some(Kept::new(entries, bio::random()))
        } else {
            None
        };
        Ok(Grants {
            mapper: Mapper::new(domid),
            kept,
            next_purge: jiffies(),
            list: Copied::new()?,
        })
    }

    /// Takes the page of `gref` into use: [`Held::Not`] if it is in the batch for [`Self::map`].
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline]
    pub(crate) fn hold(&mut self, gref: u32, readonly: bool) -> Result<Held> {
        let Some(kept) = &mut self.kept else {
            self.mapper.push(gref, readonly)?;
            return Ok(Held::Not);
        };
        if let Taken::Here(place) = kept.take(gref) {
            if let Some(mapped) = kept.get(&place) {
                return Ok(Held::Kept(place, mapped.clone()));
            }
        }
        // What is kept serves reads and writes, so it is mapped for both.
        self.mapper.push(gref, false)?;
        Ok(Held::Not)
    }

    /// How many pages are in the batch.
    #[inline]
    pub(crate) fn pending(&self) -> usize {
        self.mapper.pending()
    }

    /// Maps the batch in one hypercall; `each` gets what [`Self::hold`] has not given, in its order:
    /// [`Held::Not`] for what cannot be mapped. Sleeps.
    pub(crate) fn map(&mut self, mut each: impl FnMut(Held)) {
        let kept = &mut self.kept;
        self.mapper.map(|gref, mapped| {
            each(match (mapped, &mut *kept) {
                (None, _) => Held::Not,
                (Some(mapped), None) => Held::Own(mapped),
                (Some(mapped), Some(kept)) => keep(kept, gref, mapped),
            })
        });
    }

    /// Gives a page back. What was mapped for one request is unmapped by [`Self::flush`].
    #[inline]
    pub(crate) fn release(&mut self, held: Held) {
        match held {
            Held::Kept(place, mapped) => {
                drop(mapped);
                if let Some(kept) = &mut self.kept {
                    kept.put(place, jiffies());
                }
            }
            Held::Own(mapped) => self.mapper.unmap(mapped),
            Held::Region(..) | Held::Not => {}
        }
    }

    /// Unmaps in one hypercall what is not used any more. Sleeps.
    #[inline]
    pub(crate) fn flush(&mut self) {
        self.mapper.flush();
    }

    /// Makes a private copy of the first `len` bytes, at most a page, of a page that lists segments.
    ///
    /// A page that is kept is read where it is; any other is copied by Xen, and kept from then on if
    /// there is room.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a bad reference, `ENOMEM`.
    pub(crate) fn read_list(&mut self, gref: u32, len: usize) -> Result<&[u8]> {
        let taken = self.kept.as_mut().map(|kept| kept.take(gref));
        let held = match (taken, &self.kept) {
            (Some(Taken::Here(place)), Some(kept)) => match kept.get(&place) {
                Some(mapped) => Held::Kept(place, mapped.clone()),
                None => Held::Not,
            },
            // The batch holds pages of other requests.
            (Some(Taken::Missing), Some(_)) if self.mapper.pending() == 0 => {
                let mut only = Held::Not;
                self.mapper.push(gref, false)?;
                self.map(|held| only = held);
                only
            }
            _ => Held::Not,
        };
        let result = match &held {
            Held::Kept(_, mapped) => {
                let to = self.list.bytes_mut().get_mut(..len).ok_or(EINVAL)?;
                mapped.copy_out(to)
            }
            Held::Own(mapped) => {
                let to = self.list.bytes_mut().get_mut(..len).ok_or(EINVAL)?;
                mapped.copy_out(to)
            }
            Held::Region(..) | Held::Not => self.mapper.copy(gref, &mut self.list, len),
        };
        self.release(held);
        // What is not kept is not mapped any more when the request is refused.
        self.flush();
        result?;
        self.list.bytes().get(..len).ok_or(EINVAL)
    }

    /// Pages that are kept mapped.
    pub(crate) fn kept(&self) -> usize {
        self.kept.as_ref().map_or(0, Kept::len)
    }

    /// Pages that are kept for mapping into.
    #[inline]
    pub(crate) fn spare(&self) -> usize {
        self.mapper.kept()
    }

    /// Gives back what is kept beyond measure: mapped pages above their limit or long unused, and
    /// spare pages above `spare`. Sleeps.
    #[inline]
    pub(crate) fn tidy(&mut self, spare: usize) {
        if self.kept.is_some() && (jiffies().wrapping_sub(self.next_purge) as i64) >= 0 {
            self.purge();
        }
        if self.mapper.kept() > spare {
            self.mapper.shrink(spare);
        }
    }

    fn purge(&mut self) {
        let now = jiffies();
        let before = unused_jiffies().map(|unused| now.saturating_sub(unused));
        let mapper = &mut self.mapper;
        if let Some(kept) = &mut self.kept {
            kept.purge(before, params::max_persistent_grants(), |mapped| {
                unmap(mapper, mapped)
            });
        }
        self.mapper.flush();
        self.next_purge = now.wrapping_add(msecs_to_jiffies(PURGE_MS) as u64);
    }

    /// When [`Self::tidy`] may have something to do although no request comes, in jiffies.
    pub(crate) fn deadline(&self) -> Option<u64> {
        let kept = self.kept.as_ref()?;
        if kept.is_over(params::max_persistent_grants()) {
            return Some(self.next_purge);
        }
        let expires = kept
            .idle_since()?
            .wrapping_add(unused_jiffies()?)
            .wrapping_add(1);
        // Never earlier than the next look, whose time is what counts then.
        let early = (expires.wrapping_sub(self.next_purge) as i64) < 0;
        Some(if early { self.next_purge } else { expires })
    }
}

impl Drop for Grants {
    fn drop(&mut self) {
        let mapper = &mut self.mapper;
        if let Some(kept) = &mut self.kept {
            kept.clear(|mapped| unmap(mapper, mapped));
        }
        mapper.flush();
    }
}

/// How long a page may be unused, in jiffies, if that is limited.
fn unused_jiffies() -> Option<u64> {
    match params::unused_seconds() {
        0 => None,
        seconds => Some(u64::from(seconds).wrapping_mul(msecs_to_jiffies(1000) as u64)),
    }
}

/// Keeps what has been mapped, if there is room.
fn keep(kept: &mut Table, gref: u32, mapped: Mapped) -> Held {
    if !kept.has_room(gref, params::max_persistent_grants()) {
        return Held::Own(mapped);
    }
    let Ok(room) = UniqueArc::<Mapped>::new_uninit(GFP_KERNEL) else {
        return Held::Own(mapped);
    };
    let mapped: Arc<Mapped> = room.write(mapped).into();
    match kept.insert(gref, mapped.clone(), usize::MAX) {
        Ok(place) => Held::Kept(place, mapped),
        // There is room; if not, it is unmapped here.
        Err(_) => Held::Not,
    }
}

/// Unmaps, with others, what was kept. Nobody else holds it: it was not in use.
fn unmap(mapper: &mut Mapper, mapped: Arc<Mapped>) {
    if let Some(mut mapped) = Arc::into_unique_or_drop(mapped) {
        mapper.unmap(mapped.take());
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Tests of the foundation, run by loading the module and seen in the kernel log as KTAP.
//!
//! Only what needs a kernel on Xen is here, and only what the drivers' own tests would not notice.
//! Grants are given to and mapped from this very domain, which Xen allows.

use kernel::{
    page::Page,
    prelude::*,
    str::CString,
    sync::{
        atomic::{Acquire, Atomic, Full, Release},
        Arc,
    },
};
use xenbus::{
    copy::{CopyBatch, Side},
    grant::{Grant, GrantCallback, GrantReserve},
    kthread::Kthread,
    lend::{Lent, LentMutex},
    map::{Copied, Mapped, Mapper},
    new_spinlock_irq,
    store::{self, NIL},
    watch::Watch,
    work::Work,
};

module! {
    type: Selftest,
    name: "xenbus_selftest",
    authors: ["The Xen split drivers in Rust"],
    description: "Tests of the foundation of the Xen split drivers in Rust",
    license: "GPL",
}

struct Selftest;

impl kernel::Module for Selftest {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let mut run = Run::default();
        run.test("store: what is written is read", store_roundtrip());
        run.test("store: garbage is no number", store_garbage());
        run.test("store: an aborted transaction has no effect", store_abort());
        run.test("store: a transaction is retried on conflict", store_retry());
        run.test(
            "watch: fires on a change, and not once dropped",
            watch_fires(),
        );
        run.test(
            "watch: a flood of changes is one event, xsa349",
            watch_flood(),
        );
        run.test("grant: a mapped page's access does not end", grant_mapped());
        run.test("grant: an empty reserve grants nothing", grant_reserve());
        run.test(
            "grant: the callback comes when there are references",
            grant_callback(),
        );
        run.test("map: each is mapped or refused by itself", map_bad());
        run.test("map: a list is copied by Xen", map_copied());
        run.test("copy: a granted page is copied", copy_page());
        run.test("copy: each failure is reported", copy_bad());
        run.test("copy: nothing crosses the end of a page", copy_bounds());
        run.test("kthread: runs, sleeps, is woken, stops", kthread_runs());
        run.test("kthread: stopped before it runs", kthread_stopped());
        run.test("work: runs once a queue, and is waited for", work_runs());
        run.test("lock: exclusive between threads", lock_excludes());
        run.test(
            "lend: others have it while its thread sleeps, and only then",
            lend_while_asleep(),
        );
        run.test("lend: one at a time, by a mutex", lend_by_mutex());
        pr_info!("1..{}\n", run.number);
        if run.failed == 0 {
            Ok(Selftest)
        } else {
            Err(EIO)
        }
    }
}

#[derive(Default)]
struct Run {
    number: u32,
    failed: u32,
}

impl Run {
    fn test(&mut self, name: &str, result: Result) {
        self.number += 1;
        match result {
            Ok(()) => pr_info!("ok {} - {}\n", self.number, name),
            Err(e) => {
                self.failed += 1;
                pr_info!("not ok {} - {}: {}\n", self.number, name, e.to_errno());
            }
        }
    }
}

/// An error unless `cond` holds.
fn ensure(cond: bool) -> Result {
    if cond {
        Ok(())
    } else {
        Err(EINVAL)
    }
}

/// Waits up to two seconds until `cond` holds.
fn eventually(cond: impl Fn() -> bool) -> Result {
    for _ in 0..200 {
        if cond() {
            return Ok(());
        }
        kernel::time::delay::fsleep(kernel::time::Delta::from_millis(10));
    }
    Err(ETIMEDOUT)
}

const DIR: &CStr = c"data/xenbus-selftest";

/// Removes the test's directory, whatever happens.
struct Scratch;

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = NIL.remove(DIR, c"");
    }
}

fn store_roundtrip() -> Result {
    let _scratch = Scratch;
    NIL.printf(DIR, c"number", fmt!("{}", u64::MAX))?;
    NIL.write(DIR, c"text", c"a b")?;
    ensure(NIL.read_number::<u64>(DIR, c"number")? == Some(u64::MAX))?;
    ensure(NIL.read(DIR, c"text")?.as_bytes() == b"a b")?;
    ensure(NIL.exists(DIR, c"text") && !NIL.exists(DIR, c"none"))?;
    ensure(NIL.read_opt(DIR, c"none")?.is_none())?;
    ensure(NIL.read_number::<u32>(DIR, c"none")?.is_none())
}

fn store_garbage() -> Result {
    let _scratch = Scratch;
    for garbage in [c"", c"x", c"-1", c"4294967296", c"1 2", c"\xff"] {
        NIL.write(DIR, c"n", garbage)?;
        ensure(matches!(NIL.read_number::<u32>(DIR, c"n"), Err(e) if e == EINVAL))?;
    }
    Ok(())
}

fn store_abort() -> Result {
    let _scratch = Scratch;
    let result: Result = store::transaction(|store| {
        store.write(DIR, c"x", c"1")?;
        Err(EBUSY)
    });
    ensure(matches!(result, Err(e) if e == EBUSY))?;
    ensure(!NIL.exists(DIR, c"x"))
}

fn store_retry() -> Result {
    let _scratch = Scratch;
    NIL.write(DIR, c"x", c"1")?;
    let mut runs = 0;
    store::transaction(|store| {
        runs += 1;
        let n = store.read_number::<u32>(DIR, c"x")?.ok_or(ENOENT)?;
        if runs == 1 {
            NIL.write(DIR, c"x", c"10")?;
        }
        store.printf(DIR, c"x", fmt!("{}", n + 1))
    })?;
    ensure(runs == 2)?;
    ensure(NIL.read_number::<u32>(DIR, c"x")? == Some(11))
}

fn watch_fires() -> Result {
    let _scratch = Scratch;
    NIL.write(DIR, c"x", c"1")?;
    let seen = Arc::new(Atomic::new(0u32), GFP_KERNEL)?;
    let count = seen.clone();
    let path = CString::try_from_fmt(fmt!("data/xenbus-selftest/x"))?;
    let watch = Watch::new(path, move |_path| {
        count.fetch_add(1, Full);
    })?;
    eventually(|| seen.load(Acquire) >= 1)?;
    let before = seen.load(Acquire);
    NIL.write(DIR, c"x", c"2")?;
    eventually(|| seen.load(Acquire) > before)?;
    drop(watch);
    let after = seen.load(Acquire);
    NIL.write(DIR, c"x", c"3")?;
    kernel::time::delay::fsleep(kernel::time::Delta::from_millis(200));
    ensure(seen.load(Acquire) == after)
}

fn watch_flood() -> Result {
    let _scratch = Scratch;
    NIL.write(DIR, c"x", c"1")?;
    let seen = Arc::new(Atomic::new(0u32), GFP_KERNEL)?;
    let count = seen.clone();
    let path = CString::try_from_fmt(fmt!("data/xenbus-selftest/x"))?;
    let watch = Watch::new(path, move |_path| {
        count.fetch_add(1, Full);
        // Slower than the changes come.
        kernel::time::delay::fsleep(kernel::time::Delta::from_millis(300));
    })?;
    eventually(|| seen.load(Acquire) >= 1)?;
    for _ in 0..100 {
        NIL.write(DIR, c"x", c"2")?;
    }
    // What is queued by now is all that comes: one, or two where the writes took long.
    let queued = seen.load(Acquire);
    kernel::time::delay::fsleep(kernel::time::Delta::from_millis(2000));
    let came = seen.load(Acquire);
    drop(watch);
    ensure(came > 1 && came <= queued + 2)
}

/// This domain's own id, as another domain would name it.
fn own_domid() -> Result<u16> {
    NIL.read_number::<u16>(c"domid", c"")?.ok_or(ENOENT)
}

/// A page that starts with `bytes`, and a grant of it to this domain.
fn granted(bytes: &[u8], readonly: bool) -> Result<(Page, Grant)> {
    let page = Page::alloc_page(GFP_KERNEL | __GFP_ZERO)?;
    // SAFETY: The page is ours alone.
    unsafe { page.write_raw(bytes.as_ptr(), 0, bytes.len())? };
    // SAFETY: Both are returned, and dropped together.
    let grant = unsafe { GrantReserve::new(1)?.grant(own_domid()?, &page, readonly)? };
    Ok((page, grant))
}

fn starts_with(page: &Page, bytes: &[u8]) -> Result {
    let mut found = [0; 16];
    // SAFETY: Nobody writes to the page now.
    unsafe { page.read_raw(found.as_mut_ptr(), 0, found.len())? };
    ensure(found.starts_with(bytes))
}

/// Maps what has been granted, in one hypercall.
fn map(mapper: &mut Mapper, grants: &[(u32, bool)]) -> Result<KVec<Option<Mapped>>> {
    let mut mapped = KVec::with_capacity(grants.len(), GFP_KERNEL)?;
    for (gref, readonly) in grants {
        mapper.push(*gref, *readonly)?;
    }
    ensure(mapper.pending() == grants.len())?;
    mapper.map(|_, page| {
        let _ = mapped.push(page, GFP_KERNEL);
    });
    ensure(mapper.pending() == 0)?;
    Ok(mapped)
}

fn grant_mapped() -> Result {
    let mut mapper = Mapper::new(own_domid()?);
    let (_page, grant) = granted(b"mapped", false)?;
    let mut mapped = map(&mut mapper, &[(grant.gref(), false)])?;
    let mapped = mapped.pop().flatten().ok_or(EINVAL)?;
    starts_with(&*mapped.page().ok_or(EINVAL)?, b"mapped")?;
    let mut copy = [0; 6];
    mapped.copy_out(&mut copy)?;
    ensure(copy == *b"mapped")?;
    let Err(grant) = grant.try_end() else {
        return Err(EINVAL);
    };
    mapper.unmap(mapped);
    mapper.flush();
    ensure(mapper.kept() == 1)?;
    mapper.shrink(0);
    ensure(mapper.kept() == 0)?;
    grant.try_end().map_err(|_| EBUSY)
}

fn grant_reserve() -> Result {
    let mut none = GrantReserve::new(0)?;
    none.refill(0)?;
    drop(none);
    let mut reserve = GrantReserve::new(1)?;
    let page = Page::alloc_page(GFP_KERNEL)?;
    // SAFETY: The page lives until the end of the test.
    let first = unsafe { reserve.grant(own_domid()?, &page, true)? };
    ensure(reserve.is_empty())?;
    // SAFETY: As above.
    let second = unsafe { reserve.grant(own_domid()?, &page, true) };
    ensure(matches!(second, Err(e) if e == ENOSPC))?;
    reserve.refill(3)?;
    ensure(reserve.len() == 3)?;
    first.try_end().map_err(|_| EBUSY)
}

fn grant_callback() -> Result {
    let called = Arc::new(Atomic::new(0u32), GFP_KERNEL)?;
    let count = called.clone();
    let callback = GrantCallback::new(move || {
        count.fetch_add(1, Full);
    })?;
    callback.request(1);
    eventually(|| called.load(Acquire) == 1)
}

fn map_bad() -> Result {
    let mut mapper = Mapper::new(own_domid()?);
    let (_page, grant) = granted(b"x", true)?;
    let bad = [(grant.gref(), true), (0x7fff_ffff, true)];
    let mapped = map(&mut mapper, &bad)?;
    ensure(matches!(mapped.as_slice(), [Some(_), None]))?;
    // A page granted read only is not mapped for writing.
    let write = map(&mut mapper, &[(grant.gref(), false)])?;
    ensure(matches!(write.as_slice(), [None]))?;
    // Each that is dropped is unmapped: if the good one still were, its access would not end.
    drop(mapped);
    grant.try_end().map_err(|_| EBUSY)
}

fn map_copied() -> Result {
    let mapper = Mapper::new(own_domid()?);
    let (_page, grant) = granted(b"listed", true)?;
    let mut copied = Copied::new()?;
    mapper.copy(grant.gref(), &mut copied, 6)?;
    ensure(copied.bytes().starts_with(b"listed\0"))?;
    let bad = mapper.copy(0x7fff_ffff, &mut copied, 6);
    ensure(matches!(bad, Err(e) if e == EINVAL))?;
    let long = mapper.copy(grant.gref(), &mut copied, 4097);
    ensure(matches!(long, Err(e) if e == EINVAL))?;
    grant.try_end().map_err(|_| EBUSY)
}

fn push<'a>(batch: &mut CopyBatch<'a>, from: Side<'a>, to: Side<'a>, len: u16) -> Result {
    // SAFETY: The pages of a test are its own, and it looks at them after the copy.
    unsafe { batch.push(from, to, len) }
}

fn copy_page() -> Result {
    let (_page, grant) = granted(b"..copied", true)?;
    let to = Page::alloc_page(GFP_KERNEL | __GFP_ZERO)?;
    let mut batch = CopyBatch::new(1)?;
    let from = Side::Foreign(own_domid()?, grant.gref(), 2);
    push(&mut batch, from, Side::Local(&to, 0), 6)?;
    batch.run(|_| ())?;
    starts_with(&to, b"copied\0")
}

fn copy_bad() -> Result {
    let (page, grant) = granted(b"good", true)?;
    let to = Page::alloc_page(GFP_KERNEL | __GFP_ZERO)?;
    let domid = own_domid()?;
    let mut batch = CopyBatch::new(3)?;
    let granted = || Side::Foreign(domid, grant.gref(), 0);
    let bad = Side::Foreign(domid, 0x7fff_ffff, 0);
    push(&mut batch, bad, Side::Local(&to, 0), 4)?;
    push(&mut batch, granted(), Side::Local(&to, 0), 4)?;
    // Granted read only.
    push(&mut batch, Side::Local(&to, 0), granted(), 4)?;
    let full = push(&mut batch, Side::Local(&to, 0), Side::Local(&page, 0), 4);
    ensure(matches!(full, Err(e) if e == ENOSPC))?;
    let mut failed = [false; 3];
    let result = batch.run(|i| {
        if let Some(f) = failed.get_mut(i) {
            *f = true;
        }
    });
    ensure(result.is_err() && failed == [true, false, true])?;
    starts_with(&to, b"good")
}

fn copy_bounds() -> Result {
    let page = Page::alloc_page(GFP_KERNEL)?;
    let mut batch = CopyBatch::new(2)?;
    for (from, to, len) in [(4093, 0, 4), (0, 4093, 4), (u16::MAX, 0, 1), (0, 0, 4097)] {
        let from = Side::Foreign(0, 1, from);
        let pushed = push(&mut batch, from, Side::Local(&page, to), len);
        ensure(matches!(pushed, Err(e) if e == EINVAL))?;
    }
    Ok(())
}

fn kthread_runs() -> Result {
    let state = Arc::new(Atomic::new(0u32), GFP_KERNEL)?;
    let shared = state.clone();
    let thread = Kthread::spawn(fmt!("xenbus-selftest"), move |current| {
        shared.store(1, Release);
        current.wait(|| shared.load(Acquire) == 2);
        if shared.load(Acquire) == 2 {
            shared.store(3, Release);
        }
        current.wait(|| false);
        shared.store(4, Release);
    })?;
    eventually(|| state.load(Acquire) == 1)?;
    state.store(2, Release);
    thread.wake();
    eventually(|| state.load(Acquire) == 3)?;
    drop(thread);
    ensure(state.load(Acquire) == 4)
}

fn kthread_stopped() -> Result {
    // Whether the thread ever runs is a race; that its body is dropped once is not.
    struct Count(Arc<Atomic<u32>>);
    impl Drop for Count {
        fn drop(&mut self) {
            self.0.fetch_add(1, Full);
        }
    }
    let drops = Arc::new(Atomic::new(0u32), GFP_KERNEL)?;
    for _ in 0..50 {
        let count = Count(drops.clone());
        drop(Kthread::spawn(fmt!("xenbus-selftest"), move |_| {
            drop(count)
        })?);
    }
    ensure(drops.load(Acquire) == 50)
}

fn work_runs() -> Result {
    let runs = Arc::new(Atomic::new(0u32), GFP_KERNEL)?;
    let count = runs.clone();
    let work = Work::new(move || {
        kernel::time::delay::fsleep(kernel::time::Delta::from_millis(50));
        count.fetch_add(1, Full);
    })?;
    ensure(work.queue())?;
    work.flush();
    ensure(runs.load(Acquire) == 1)?;
    ensure(work.queue())?;
    eventually(|| !work.queue() || runs.load(Acquire) > 1)?;
    drop(work);
    let settled = runs.load(Acquire);
    kernel::time::delay::fsleep(kernel::time::Delta::from_millis(120));
    ensure(runs.load(Acquire) == settled)
}

fn lock_excludes() -> Result {
    let lock = Arc::pin_init(new_spinlock_irq!(0u64), GFP_KERNEL)?;
    let done = Arc::new(Atomic::new(0u32), GFP_KERNEL)?;
    let mut threads = KVec::new();
    for _ in 0..2 {
        let (lock, done) = (lock.clone(), done.clone());
        threads.push(
            Kthread::spawn(fmt!("xenbus-selftest"), move |_| {
                for _ in 0..100_000 {
                    let mut guard = lock.lock();
                    *guard += 1;
                }
                done.fetch_add(1, Full);
            })?,
            GFP_KERNEL,
        )?;
    }
    eventually(|| done.load(Acquire) == 2)?;
    let count = *lock.lock();
    ensure(count == 200_000)
}

fn lend_by_mutex() -> Result {
    let lent = Arc::pin_init(LentMutex::<u32>::new(), GFP_KERNEL)?;
    ensure(lent.with(|_| ()).is_none())?;
    let mut count = 1000;
    let alone = lent.lend(&mut count, || {
        lent.with(|count| {
            *count = count.wrapping_add(1);
            lent.with(|_| ()).is_none()
        })
    });
    ensure(alone == Some(true) && count == 1001 && lent.with(|_| ()).is_none())
}

fn lend_while_asleep() -> Result {
    let lent = Arc::pin_init(Lent::<u32>::new(), GFP_KERNEL)?;
    let add = |lent: &Lent<u32>| lent.with(|count| *count = count.wrapping_add(1)).is_some();
    ensure(!add(&lent))?;
    let state = Arc::new(Atomic::new(0u32), GFP_KERNEL)?;
    let (place, shared) = (lent.clone(), state.clone());
    let thread = Kthread::spawn(fmt!("xenbus-selftest"), move |current| {
        let mut count = 1000;
        place.lend(&mut count, || current.wait(|| shared.load(Acquire) == 1));
        shared.store(count, Release);
        current.wait(|| false);
    })?;
    eventually(|| lent.with(|_| ()).is_some())?;
    for _ in 0..10 {
        ensure(add(&lent))?;
    }
    state.store(1, Release);
    thread.wake();
    eventually(|| state.load(Acquire) != 1)?;
    ensure(state.load(Acquire) == 1010 && !add(&lent))
}

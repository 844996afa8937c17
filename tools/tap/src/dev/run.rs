// SPDX-License-Identifier: GPL-2.0
//! A chain as a guest's disk: threads, signals, changes.
//!
//! If all extensions of the chain are [parallel](crate::Extension::PARALLEL), each queue has a
//! thread, with a chain of its own; otherwise one thread has all queues. The first one also looks
//! after signals and changes.
//!
//! A chain of filters that are all [hooks](crate::Extension::is_hook) is one of hooks here.

use super::below::{Below, OWN_BYTES};
use super::device::{Device, Opened};
use super::front::Front;
use super::hooks::{Hook, VirtualDisk};
use super::queue::{Door, Queue};
use crate::chain::Chain;
use crate::log::Log;
use crate::program::Stop;
use crate::rt::{self, Either, Flag, Notify};
use crate::sys::watch::Watch;
use crate::{AnyDisk, Info};
use protocol::tap::ioctl::{self, geometry, Attach, Geometry, NO_DATA, POLLS, WAIT};
use protocol::tap::{Mode, Policy, State, SECTOR_SIZE};
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

/// How a chain is to be a guest's disk.
#[derive(Clone, Debug)]
pub struct Options {
    /// The guest's domain.
    pub domid: u32,
    /// The number of its virtual device, as in `device/vbd/51712`.
    pub handle: u32,
    /// What becomes of the guest's requests when the program dies.
    pub policy: Policy,
    /// Wait until there is such a disk and no other program has it.
    pub wait: bool,
    /// Bytes of each queue's window for the guest's data, 0 for as many as is usual.
    pub guest_bytes: u32,
}

/// A chain has so long to be opened.
const OPENING: Duration = Duration::from_secs(60);

/// At the end, requests that are under way are waited for so long.
const GRACE: Duration = Duration::from_secs(30);

/// Serves `chain` to a guest until SIGTERM or SIGINT comes, or the disk is detached. Calls `ready`
/// when the guest can use it.
///
/// A chain that ends with a filter is put between the guest and its disk (`INTERPOSE`), another one
/// in the disk's place (`INTERCEPT_FE`).
///
/// # Errors
/// What has gone wrong with the chain or the device, in words for the administrator.
pub fn run(chain: Chain, options: Options, ready: impl FnOnce() + 'static) -> io::Result<()> {
    let device = Device::open()?;
    rt::run(control(chain, options, device, ready))?
}

async fn control(
    chain: Chain,
    options: Options,
    device: Device,
    ready: impl FnOnce(),
) -> io::Result<()> {
    let log = Log::new(chain.text());
    let (filter, hooks) = (chain.is_filter(), chain.is_hooks());
    // With another program at the disk still, files are to be opened when it has gone.
    let early = match filter || options.wait {
        true => None,
        false => Some(chain.open(None).await?),
    };
    let mode = match filter {
        true => Mode::Interpose,
        false => Mode::InterceptFe,
    };
    // The kernel's thread copies data while this one works, if there is another CPU; what hooks need of it
    // is less than what it takes to wake it.
    let polls = hooks || thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1);
    let opened = device.attach(Attach {
        domid: options.domid,
        handle: options.handle,
        flags: bit(options.wait, WAIT) | bit(hooks, NO_DATA) | bit(polls, POLLS),
        mode: mode as u32,
        policy: options.policy as u32,
        guest_bytes: options.guest_bytes,
        own_bytes: if filter && !hooks { OWN_BYTES } else { 0 },
        ..Attach::default()
    })?;
    // From here on SIGTERM is a wish only.
    let stop = Stop::new()?;
    let all: Vec<u32> = (0..opened.attach().nr_queues).collect();
    let groups: Vec<Vec<u32>> = match chain.is_parallel() {
        true => all.into_iter().map(|queue| vec![queue]).collect(),
        false => vec![all],
    };
    let mut groups = groups.into_iter();
    let mine = groups.next().unwrap_or_default();
    let local = Local::new(&opened, &mine, &chain, &log)?;
    let served = match early {
        Some(disk) => Ok(Served::Disk(disk)),
        None => rt::timeout(OPENING, local.open(&chain))
            .await
            .unwrap_or_else(|| {
                let what = "the chain is not open after a minute; a filter that reads its disk \
                            when it is opened needs a guest that is connected";
                Err(io::Error::other(what))
            }),
    };
    let served = match served {
        Ok(served) => served,
        Err(error) => {
            if filter && !options.wait {
                // As if nobody had come.
                let _ = opened.set_policy(Policy::Passthrough);
            }
            return Err(error);
        }
    };
    if let Served::Disk(disk) = &served {
        let seen = opened.info()?.geometry;
        let wanted = geometry_of(&disk.info());
        if !filter || wanted.sectors != seen.sectors {
            opened.set_geometry(wanted)?;
        }
    }

    let (end, failed) = (Flag::default(), Flag::default());
    let mut threads = Vec::new();
    for queues in groups {
        let (opened, chain) = (opened.try_clone()?, chain.clone());
        let (end, failed) = (end.clone(), failed.clone());
        let work = move || {
            let result = rt::run(worker(chain, opened, queues, end))
                .and_then(|result| result)
                .map_err(|error| error.to_string());
            if result.is_err() {
                failed.set();
            }
            result
        };
        threads.push(thread::Builder::new().spawn(work)?);
    }
    local.start(&served);
    ready();
    log.info(format_args!(
        "serves domain {}, device {}, {} threads",
        options.domid,
        options.handle,
        threads.len() + 1
    ));

    let until = rt::race(
        rt::race(stop.wait(), failed.wait()),
        rt::race(
            changes(&opened, &local, &log),
            sizes(&opened, &served, &log),
        ),
    );
    let result = match local.during(until).await {
        Ok(Either::First(Either::First(()))) => Ok(()),
        Ok(Either::First(Either::Second(()))) => Ok(()),
        Ok(Either::Second(Either::First(result))) => result,
        Ok(Either::Second(Either::Second(never))) => match never {},
        Err(error) => Err(error),
    };
    end.set();
    let result = result.and(local.end(&served).await);
    let mut results = vec![result];
    for thread in threads {
        let ended = thread
            .join()
            .unwrap_or_else(|_| Err("a thread has panicked".into()));
        results.push(ended.map_err(io::Error::other));
    }
    log.info("ends");
    results.into_iter().collect()
}

/// A thread of its own for some queues.
async fn worker(chain: Chain, opened: Opened, queues: Vec<u32>, end: Flag) -> io::Result<()> {
    let local = Local::new(&opened, &queues, &chain, &Log::new(chain.text()))?;
    let served = local.open(&chain).await?;
    local.start(&served);
    local.during(end.wait()).await?;
    local.end(&served).await
}

/// Follows what becomes of the guest's side, until it is gone.
async fn changes(opened: &Opened, local: &Local, log: &Log) -> io::Result<()> {
    loop {
        let info = opened.info()?;
        match State::from_number(info.state) {
            Some(State::Gone) => {
                log.info("the disk has been detached");
                return Ok(());
            }
            Some(State::Broken) => {
                return Err(io::Error::other(
                    "the kernel says that our rings are broken",
                ));
            }
            _ => (),
        }
        local.set_info(&info);
        local.news.notified().await;
    }
}

enum Never {}

/// Tells the guest of new sizes.
async fn sizes(opened: &Opened, served: &Served, log: &Log) -> Never {
    let Served::Disk(disk) = served else {
        return std::future::pending().await;
    };
    loop {
        disk.resized().await;
        let info = disk.info();
        match opened.set_geometry(geometry_of(&info)) {
            Ok(()) => log.info(format_args!("has {} bytes now", info.size)),
            Err(error) => log.error("resize", &error),
        }
    }
}

/// `bit`, if it is to be set.
fn bit(on: bool, bit: u32) -> u32 {
    if on {
        bit
    } else {
        0
    }
}

/// What the guest is told of a disk.
fn geometry_of(info: &Info) -> Geometry {
    Geometry {
        sectors: info.size / SECTOR_SIZE as u64,
        sector_size: info.block_size,
        physical_sector_size: info.physical_block_size.max(info.block_size),
        features: geometry::FLUSH
            | bit(info.discard && !info.read_only, geometry::DISCARD)
            | bit(info.read_only, geometry::READ_ONLY),
        discard_granularity: info.discard_granularity,
    }
}

/// What a chain was opened as.
enum Served {
    Disk(AnyDisk),
    Hooks(Vec<Rc<dyn Hook>>),
}

enum Form {
    Disk(Rc<Front>),
    Hooks(VirtualDisk),
}

/// The queues of this thread, and the tasks that look after them.
struct Local {
    form: Form,
    door: Rc<Door>,
    /// There is something new about the disk.
    news: Notify,
    queues: Rc<[Rc<Queue>]>,
    tasks: Vec<rt::Task<io::Result<()>>>,
}

impl Local {
    fn new(opened: &Opened, queues: &[u32], chain: &Chain, log: &Log) -> io::Result<Self> {
        let kicker = opened.try_clone()?;
        let polls = opened.attach().flags & POLLS != 0;
        let door = Door::new(polls, move |mask| kicker.kick(mask));
        let guest = opened.attach().guest_bytes as usize;
        let queues = queues
            .iter()
            .map(|&index| Queue::new(index, opened.region(index)?, guest, &door))
            .collect::<io::Result<Rc<[_]>>>()?;
        let form = match chain.is_hooks() {
            true => Form::Hooks(VirtualDisk::new(&door.bell)),
            false => {
                let below = match chain.is_filter() {
                    true => Some(Below::new(&queues, &opened.info()?)),
                    false => None,
                };
                Form::Disk(Front::new(below, log.clone(), &door.bell))
            }
        };
        let mut tasks = Vec::new();
        let fd = opened.fd()?;
        let (bell, news) = (door.bell.clone(), Notify::new());
        let tell = news.clone();
        tasks.push(rt::spawn(async move {
            let mut watch = Watch::new(&fd, libc::POLLIN | libc::POLLPRI);
            loop {
                if watch.next().await & !libc::POLLIN != 0 {
                    tell.notify();
                }
                bell.notify();
            }
        }));
        for queue in queues.iter() {
            rt::uring().offer(&queue.region);
            let queue = queue.clone();
            tasks.push(match &form {
                Form::Disk(front) => rt::spawn(front.clone().run(queue)),
                Form::Hooks(disk) => rt::spawn(disk.clone().run(queue, queues.clone())),
            });
        }
        let (publisher, list) = (door.clone(), queues.clone());
        tasks.push(rt::spawn(async move { publisher.run(&list).await }));
        Ok(Self {
            form,
            door,
            news,
            queues,
            tasks,
        })
    }

    async fn open(&self, chain: &Chain) -> io::Result<Served> {
        match &self.form {
            Form::Hooks(_) => chain.open_hooks().await.map(Served::Hooks),
            Form::Disk(front) => {
                let below = front.below.clone().map(AnyDisk::new);
                chain.open(below).await.map(Served::Disk)
            }
        }
    }

    /// Requests are taken from now on.
    fn start(&self, served: &Served) {
        match (&self.form, served) {
            (Form::Disk(front), Served::Disk(disk)) => front.start(disk),
            (Form::Hooks(disk), Served::Hooks(hooks)) => disk.start(hooks.clone()),
            // Both come of the same chain.
            _ => (),
        }
    }

    fn set_info(&self, info: &ioctl::Info) {
        if let Form::Disk(front) = &self.form {
            if let Some(below) = &front.below {
                below.set_info(info);
            }
        }
    }

    /// Waits for `until`, or an error of the tasks.
    async fn during<T>(&self, until: impl Future<Output = T>) -> io::Result<T> {
        let failed = std::future::poll_fn(|context| {
            let mut tasks = self.tasks.iter();
            match tasks.find_map(|task| task.poll_result(context)) {
                Some(result) => std::task::Poll::Ready(result),
                None => std::task::Poll::Pending,
            }
        });
        match rt::race(until, failed).await {
            Either::First(done) => Ok(done),
            Either::Second(Err(error)) => Err(error),
            Either::Second(Ok(())) => Err(io::Error::other("a task has ended")),
        }
    }

    /// Finishes what is under way, and closes the disk.
    async fn end(self, served: &Served) -> io::Result<()> {
        let finish = async {
            match &self.form {
                Form::Disk(front) => front.finish().await,
                Form::Hooks(disk) => disk.finish().await,
            }
        };
        let finished = rt::timeout(GRACE, finish).await;
        self.door.publish(&self.queues)?;
        if finished.is_none() {
            // They are the next program's, or the policy's.
            let what = "requests do not come to their end; they are left as they are";
            return Err(io::Error::other(what));
        }
        match served {
            Served::Disk(disk) => {
                disk.flush().await?;
                disk.close().await
            }
            Served::Hooks(hooks) => {
                let closes = hooks.iter().map(|hook| hook.close());
                rt::join_all(closes).await.into_iter().collect()
            }
        }
    }
}

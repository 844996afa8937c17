// SPDX-License-Identifier: GPL-2.0
//! Tests of the chain's syntax.

use super::*;
use crate::{rt, AnyDisk, Disk, Info};
use std::cell::RefCell;
use std::io;
use std::sync::Arc;

thread_local! {
    static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Leaf;

impl Disk for Leaf {
    fn info(&self) -> Info {
        Info::new(4096)
    }
}

impl Extension for Leaf {
    const NAME: &str = "leaf";
    const HELP: &str = "a disk";
    const OPTIONS: &[Opt] = &[
        Opt::main("file", "a path"),
        Opt::may("size", "a size"),
        Opt::or("wait", "10ms", "a time"),
    ];
    const PARALLEL: bool = true;

    async fn open(options: &Options) -> io::Result<Self> {
        let size = match options.get("size") {
            Some(_) => options.bytes("size")?,
            None => 0,
        };
        let (file, wait) = (options.text("file")?, options.time("wait")?);
        SEEN.with_borrow_mut(|seen| seen.push(format!("{file} {size} {wait:?}")));
        Ok(Leaf)
    }
}

struct Over(AnyDisk);

impl Disk for Over {
    fn below(&self) -> Option<&AnyDisk> {
        Some(&self.0)
    }
}

impl Extension for Over {
    const NAME: &str = "over";
    const HELP: &str = "a filter";
    const OPTIONS: &[Opt] = &[
        Opt::may("iops", "a number"),
        Opt::may("with", "a disk"),
        Opt::below("base", "a disk"),
    ];
    const FILTER: bool = true;

    async fn open(options: &Options) -> io::Result<Self> {
        let iops = options.get("iops").map(|_| options.number("iops"));
        let iops = iops.transpose()?;
        if options.get("with").is_some() {
            options.disk("with", true).await?;
        }
        SEEN.with_borrow_mut(|seen| seen.push(format!("over {iops:?}")));
        Ok(Over(options.below()?))
    }
}

fn registry() -> Arc<Registry> {
    Arc::new(Registry::new().with::<Leaf>().with::<Over>())
}

/// What the extensions of a chain were opened with, or the error.
fn opened(text: &str) -> Result<Vec<String>, String> {
    let chain = Chain::parse(&registry(), text).map_err(|error| error.to_string())?;
    SEEN.take();
    let disk = rt::run(async move { chain.open(None).await.map(|disk| disk.info().size) });
    assert_eq!(disk.unwrap().map_err(|error| error.to_string())?, 4096);
    Ok(SEEN.take())
}

#[test]
fn chains_are_opened_from_the_end() {
    assert_eq!(opened("leaf:/a").unwrap(), ["/a 0 10ms"]);
    assert_eq!(
        opened("over:iops=5+over+leaf:file=/a=b,size=64M,wait=2s").unwrap(),
        ["/a=b 67108864 2s", "over None", "over Some(5)"]
    );
    assert_eq!(opened("over:+leaf:/a:b").unwrap().len(), 2);
}

#[test]
fn a_disk_below_may_be_an_option() {
    assert_eq!(
        opened("over:iops=1+over:base=leaf:/a,,size=1k").unwrap(),
        ["/a 1024 10ms", "over None", "over Some(1)"]
    );
    let chain = Chain::parse(&registry(), "over:base=leaf:/a").unwrap();
    assert!(!chain.is_filter());
    let error = opened("over:base=leaf:/a+leaf:/b").unwrap_err();
    assert!(error.contains("over is no filter with base="), "{error}");
}

#[test]
fn separators_are_doubled() {
    assert_eq!(opened("leaf:/c++++/a,,b").unwrap(), ["/c++/a,b 0 10ms"]);
    assert_eq!(opened("over+leaf:/x++").unwrap()[0], "/x+ 0 10ms");
    assert_eq!(
        opened("over:with=leaf:/b,,size=1k,iops=1+leaf:/a").unwrap(),
        ["/a 0 10ms", "/b 1024 10ms", "over Some(1)"]
    );
}

#[test]
fn a_chain_knows_what_it_is() {
    let chain = |text| Chain::parse(&registry(), text).unwrap();
    assert!(chain("over").is_filter() && !chain("over+leaf:/a").is_filter());
    assert!(chain("leaf:/a").is_parallel() && !chain("over+leaf:/a").is_parallel());
    assert!(chain("/a.raw").is_parallel());
    let help = registry().help();
    assert!(help.contains("leaf        a disk\n    file        a path (required)"));
    assert!(help.contains("wait        a time [10ms]"));
}

#[test]
fn errors_say_what_where_and_what_would_be_right() {
    let error = |text| opened(text).unwrap_err();
    assert_eq!(
        error("over:iop=1+leaf:/a"),
        "chain \"over:iop=1+leaf:/a\", at \"iop=1\": over has no option iop; did you mean iops? \
         (there are: iops, with, base)"
    );
    assert_eq!(
        error("leef:/a"),
        "chain \"leef:/a\": there is no extension leef; did you mean leaf? \
         (there are: raw, noop, leaf, over)"
    );
    assert_eq!(error("leaf"), "chain \"leaf\": leaf needs file=… (a path)");
    assert_eq!(
        error("leaf:/a,,b,c"),
        "chain \"leaf:/a,,b,c\", at \"c\": an option is a name, = and a value; a comma in a value \
         is written ,,; there are: file, size, wait"
    );
    assert!(error("").contains("it is empty"));
    assert!(error("over+").contains("a + in a path is written ++"));
    assert!(error("leaf:/a+leaf:/b").contains("at \"leaf:/a\": leaf is no filter"));
    assert!(error("leaf:/a,size=1,size=2").contains("at \"size=2\": size is given twice"));
    assert!(error("leaf:/a,size=1X").contains("at \"size=1X\": size is a size, such as"));
    assert!(error("leaf:/a,size=99999999T").contains("size is a size"));
    assert!(error("leaf:/a,wait=5").contains("wait is a time, such as"));
    assert!(error("over:iops=x+leaf:/a").contains("iops is a number"));
    assert!(error("over:with=over+leaf:/a").contains("with ends with a filter"));
    assert!(error("over").contains("over: there is no disk below"));
    assert!(error("./a").contains("no extension's name and is no path"));
    assert!(error("over+/nowhere/x").contains("/nowhere/x: No such file"));
}

#[test]
fn it_is_shown_what_was_read_and_what_is_wrong() {
    let registry = registry();
    let chain = Chain::parse(&registry, "over:iops=5+leaf:/a,size=1k").unwrap();
    assert_eq!(
        chain.description(),
        "over         iops=5\nleaf         file=/a size=1k\nin the place of the guest's disk\n"
    );
    let chain = Chain::parse(&registry, "over").unwrap();
    assert_eq!(chain.description(), "over\nover the guest's own disk\n");
    let error = Chain::parse(&registry, "over+lead:/ü").unwrap_err();
    let picture = error.picture();
    let mut lines = picture.lines();
    assert_eq!(lines.next(), Some("over+lead:/ü"));
    assert_eq!(lines.next(), Some("            ^^^^^^^"));
    assert!(lines
        .next()
        .unwrap()
        .starts_with("       there is no extension lead; did you"));
    let error = Chain::parse(&registry, "").unwrap_err();
    assert_eq!(error.picture(), error.to_string());
}

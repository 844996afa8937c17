// SPDX-License-Identifier: GPL-2.0
//! A device that a driver domain serves: read from its back end's directory in the store, remembered
//! as a line of text, and attached again: a disk by `xl block-attach`, an interface by `vif.rs`.

use std::io;
use xen::store::View;
use xen::DomId;

/// The sorts of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sort {
    Disk,
    Vif,
}

impl Sort {
    pub(crate) const ALL: [Self; 2] = [Self::Disk, Self::Vif];

    /// The directory of the sort in the store.
    pub(crate) fn dir(self) -> &'static str {
        match self {
            Self::Disk => "vbd",
            Self::Vif => "vif",
        }
    }
}

/// A device as the toolstack wrote it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub sort: Sort,
    /// The guest.
    pub guest: DomId,
    /// Its number there, such as 51728 for xvdb.
    pub number: u32,
    /// The back end's directory, such as `/local/domain/4/backend/vbd/7/51728`.
    pub back: String,
    /// Its name, such as `xvdb`, or `vif0`.
    pub dev: String,
    /// What it is in the driver domain, such as `/dev/xvda`; an interface's address.
    pub params: String,
    /// `r` or `w`, perhaps with `!`; of an interface `-`.
    pub mode: String,
    /// The hotplug script, or nothing.
    pub script: String,
    /// `disk` or `cdrom`; of an interface nothing.
    pub kind: String,
    /// The sort of back end, such as `phy`; of an interface nothing.
    pub backend: String,
    /// The guest is told to show its back end nothing but the data.
    pub untrusted: bool,
}

/// What stands in a line for a device that is not trusted.
const UNTRUSTED: &str = "untrusted";

impl Device {
    /// Reads the device whose back end's directory is `back`; `None` while its description is not
    /// whole, or if it is not one that can be attached again.
    pub(crate) fn read(store: &mut View<'_>, back: &str) -> io::Result<Option<Self>> {
        let mut get = |key: &str| store.read_opt(&format!("{back}/{key}"));
        let Some((sort, guest, number)) = place(back) else {
            return Ok(None);
        };
        let (dev, params, mode) = match sort {
            Sort::Disk => (get("dev")?, get("params")?, get("mode")?),
            Sort::Vif => (Some(format!("vif{number}")), get("mac")?, Some("-".into())),
        };
        let (Some(dev), Some(params), Some(mode)) = (dev, params, mode) else {
            return Ok(None);
        };
        let mut device = Device {
            sort,
            guest,
            number,
            back: back.to_string(),
            dev,
            params,
            mode,
            script: get("script")?.unwrap_or_default(),
            kind: get("device-type")?.unwrap_or_default(),
            backend: get("type")?.unwrap_or_default(),
            untrusted: false,
        };
        // A driver domain cannot see all that the guests' directories hold, and need not.
        let trusted = store.read_opt(&format!("{}/trusted", device.front()));
        device.untrusted = trusted.ok().flatten().as_deref() == Some("0");
        Ok(device.is_sound().then_some(device))
    }

    /// The front end's directory.
    pub(crate) fn front(&self) -> String {
        format!("/local/domain/{}{}", self.guest, self.place())
    }

    /// The toolstack's own record of it, which the guest does not see.
    pub(crate) fn record(&self) -> String {
        format!("/libxl/{}{}", self.guest, self.place())
    }

    fn place(&self) -> String {
        format!("/device/{}/{}", self.sort.dir(), self.number)
    }

    /// The back end's directory in another driver domain.
    pub(crate) fn back_in(&self, domain: DomId) -> String {
        let (dir, guest, number) = (self.sort.dir(), self.guest, self.number);
        format!("/local/domain/{domain}/backend/{dir}/{guest}/{number}")
    }

    /// What tells it from all others.
    pub(crate) fn key(&self) -> (DomId, Sort, u32) {
        (self.guest, self.sort, self.number)
    }

    /// The driver domain whose life it was attached to.
    pub(crate) fn domain(&self) -> Option<DomId> {
        let rest = self.back.strip_prefix("/local/domain/")?;
        rest.split('/').next()?.parse().ok()
    }

    /// Whether it can be written as a specification, and as a line.
    fn is_sound(&self) -> bool {
        let word = |text: &str| !text.contains([',', '=', '\t', '\n', ' ']);
        let texts = [
            &self.dev,
            &self.mode,
            &self.script,
            &self.kind,
            &self.backend,
        ];
        texts.into_iter().all(|text| word(text))
            && !self.dev.is_empty()
            && !self.params.is_empty()
            && !self.params.contains(['\t', '\n'])
            && !self.back.contains(['\t', '\n'])
    }

    /// Whether the script `block` serves it, from a device that exists already.
    pub(crate) fn is_plain(&self) -> bool {
        let standard = self.script.is_empty() || self.script.ends_with("/scripts/block");
        standard && self.backend == "phy"
    }

    /// The specification for `xl block-attach` (xl-disk-configuration(5)) with `domain` as back end.
    pub(crate) fn spec(&self, domain: &str) -> String {
        let access = if self.mode.contains('w') { "w" } else { "r" };
        let mut spec = format!(
            "format=raw,vdev={},access={access},backend={domain}",
            self.dev
        );
        if matches!(self.backend.as_str(), "phy" | "qdisk") {
            spec += &format!(",backendtype={}", self.backend);
        }
        if self.kind == "cdrom" {
            spec += ",devtype=cdrom";
        }
        if !self.script.is_empty() && !self.script.ends_with("/scripts/block") {
            spec += &format!(",script={}", self.script);
        }
        if self.untrusted {
            spec += ",untrusted";
        }
        // The last one, since it takes all that follows.
        spec + ",target=" + &self.params
    }

    /// The line that it is remembered as; [`Device::parse`] undoes it.
    pub(crate) fn line(&self) -> String {
        [
            self.back.as_str(),
            &self.dev,
            &self.params,
            &self.mode,
            &self.script,
            &self.kind,
            &self.backend,
            if self.untrusted { UNTRUSTED } else { "" },
        ]
        .join("\t")
    }

    /// Reads a line; `None` if it is not one of [`Device::line`].
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split('\t').map(String::from).collect();
        let [back, dev, params, mode, script, kind, backend, trust] = words.try_into().ok()?;
        let (sort, guest, number) = place(&back)?;
        let device = Device {
            sort,
            guest,
            number,
            back,
            dev,
            params,
            mode,
            script,
            kind,
            backend,
            untrusted: trust == UNTRUSTED,
        };
        device.is_sound().then_some(device)
    }
}

/// What the name of a back end's directory says: `…/SORT/GUEST/NUMBER`.
fn place(back: &str) -> Option<(Sort, DomId, u32)> {
    let mut words = back.rsplit('/');
    let number = words.next()?.parse().ok()?;
    let guest = words.next()?.parse().ok()?;
    let dir = words.next()?;
    let sort = Sort::ALL.into_iter().find(|sort| sort.dir() == dir)?;
    Some((sort, guest, number))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A disk for tests.
    pub(crate) fn disk(guest: DomId, number: u32, domain: DomId) -> Device {
        Device {
            sort: Sort::Disk,
            guest,
            number,
            back: format!("/local/domain/{domain}/backend/vbd/{guest}/{number}"),
            dev: "xvdb".into(),
            params: "/dev/xvda".into(),
            mode: "w".into(),
            script: "/etc/xen/scripts/block".into(),
            kind: "disk".into(),
            backend: "phy".into(),
            untrusted: false,
        }
    }

    #[test]
    fn specifications() {
        let plain = disk(7, 51728, 4);
        assert_eq!(
            plain.spec("drv"),
            "format=raw,vdev=xvdb,access=w,backend=drv,backendtype=phy,target=/dev/xvda"
        );
        assert!(plain.is_plain());
        assert_eq!(plain.domain(), Some(4));
        assert_eq!(plain.front(), "/local/domain/7/device/vbd/51728");
        let odd = Device {
            mode: "r".into(),
            script: "/etc/xen/scripts/block-tap".into(),
            kind: "cdrom".into(),
            params: "cow:base=/a,delta=/b c".into(),
            untrusted: true,
            ..plain
        };
        assert!(!odd.is_plain());
        assert_eq!(
            odd.spec("drv"),
            "format=raw,vdev=xvdb,access=r,backend=drv,backendtype=phy,devtype=cdrom,\
             script=/etc/xen/scripts/block-tap,untrusted,target=cow:base=/a,delta=/b c"
        );
    }

    #[test]
    fn lines_come_back() {
        let disk = disk(7, 51728, 4);
        assert_eq!(Device::parse(&disk.line()), Some(disk.clone()));
        let bare = Device {
            script: String::new(),
            ..disk.clone()
        };
        assert_eq!(Device::parse(&bare.line()), Some(bare));
        let vif = Device::parse(
            "/local/domain/4/backend/vif/7/0\tvif0\t00:16:3e:09:00:01\t-\tvif-bridge\t\t\tuntrusted",
        )
        .unwrap();
        assert_eq!(vif.key(), (7, Sort::Vif, 0));
        assert!(vif.untrusted && !disk.untrusted);
        assert_eq!(vif.front(), "/local/domain/7/device/vif/0");
        assert_eq!(vif.record(), "/libxl/7/device/vif/0");
        assert_eq!(vif.back_in(5), "/local/domain/5/backend/vif/7/0");
        assert_eq!(Device::parse(&vif.line()), Some(vif));
        for bad in [
            "",
            "a\tb",
            &disk.line().replace("51728", "x"),
            &disk.line().replace("vbd", "9pfs"),
            &(disk.line() + "\tmore"),
        ] {
            assert_eq!(Device::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_would_change_the_meaning_of_a_specification_is_refused() {
        for text in ["xvdb,access=w", "xvdb\n", "a b", "a=b"] {
            let line = Device {
                dev: text.into(),
                ..disk(7, 51728, 4)
            }
            .line();
            assert_eq!(Device::parse(&line), None, "{text}");
        }
    }
}

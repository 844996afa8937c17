// SPDX-License-Identifier: GPL-2.0
//! What a driver domain serves. It is kept in a file, too, for a devmgr that is started again while
//! the domain is dead.

use crate::device::{Device, Sort};
use crate::Result;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use xen::DomId;

/// The devices of a driver domain, by guest, sort and number.
#[derive(Debug)]
pub(crate) struct Memory {
    path: PathBuf,
    devices: BTreeMap<(DomId, Sort, u32), Device>,
}

impl Memory {
    /// What the file of `domain` in `dir` says; nothing where there is none.
    pub(crate) fn load(dir: &Path, domain: &str) -> Result<Self> {
        let path = dir.join(domain);
        let text = match fs::read_to_string(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            other => other.map_err(|e| format!("{}: {e}", path.display()))?,
        };
        let devices = text
            .lines()
            .filter_map(Device::parse)
            .map(|device| (device.key(), device))
            .collect();
        Ok(Memory { path, devices })
    }

    /// All devices.
    pub(crate) fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.values()
    }

    /// Takes note of a device; true if that is news.
    pub(crate) fn keep(&mut self, device: Device) -> bool {
        let key = device.key();
        self.devices.get(&key) != Some(&device) && {
            self.devices.insert(key, device);
            true
        }
    }

    /// Forgets a device.
    pub(crate) fn forget(&mut self, device: &Device) {
        self.devices.remove(&device.key());
    }

    /// Writes the file anew.
    pub(crate) fn save(&self) -> Result {
        let text: String = self.devices().map(|device| device.line() + "\n").collect();
        let new = self.path.with_extension("new");
        self.path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, &self.path))
            .map_err(|e| format!("{}: {e}", self.path.display()).into())
    }
}

/// Prints what all domains serve: domain, guest, name, what it is in the domain.
pub(crate) fn print(dir: &Path) -> Result {
    let mut names = Vec::new();
    match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(format!("{}: {e}", dir.display()).into()),
        Ok(entries) => {
            for entry in entries {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
        }
    }
    names.sort();
    for name in names.iter().filter(|name| !name.ends_with(".new")) {
        for device in Memory::load(dir, name)?.devices() {
            let Device {
                guest,
                dev,
                params,
                mode,
                ..
            } = device;
            println!("{name}\t{guest}\t{dev}\t{mode}\t{params}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::tests::disk;

    #[test]
    fn what_is_saved_is_there_again() {
        let dir = std::env::temp_dir().join(format!("devmgr-test-{}", std::process::id()));
        let mut memory = Memory::load(&dir, "drv").unwrap();
        assert_eq!(memory.devices().count(), 0);
        assert!(memory.keep(disk(7, 51728, 4)));
        assert!(!memory.keep(disk(7, 51728, 4)));
        assert!(memory.keep(disk(8, 51728, 4)));
        // The same disk from the domain's next life takes the place of the old one.
        assert!(memory.keep(disk(8, 51728, 5)));
        memory.save().unwrap();
        let mut again = Memory::load(&dir, "drv").unwrap();
        assert!(again.devices().eq(memory.devices()));
        assert_eq!(again.devices().count(), 2);
        again.forget(&disk(7, 51728, 4));
        again.save().unwrap();
        assert_eq!(Memory::load(&dir, "drv").unwrap().devices().count(), 1);
        fs::remove_dir_all(dir).unwrap();
    }
}

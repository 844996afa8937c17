// SPDX-License-Identifier: GPL-2.0
//! The header of LUKS2: a binary part of 4096 bytes, big-endian, and JSON; all of it twice.

use super::luks::{self, bad, Check, Hash, Header, Kdf, Slot, MAGIC, SECOND_MAGIC};
use base64::prelude::{Engine, BASE64_STANDARD};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::io;
use tap::AnyDisk;

const BINARY: usize = 4096;
const CHECKSUM: std::ops::Range<usize> = 448..480;
const CHECKSUM_END: usize = 512;

/// Where the second header may be, which depends on the size of the first.
const SECOND: [u64; 9] = [
    0x4000, 0x8000, 0x10000, 0x20000, 0x40000, 0x80000, 0x10_0000, 0x20_0000, 0x40_0000,
];

/// Reads the header whose first bytes are `first`, or the second one if that is damaged.
pub async fn read(disk: &AnyDisk, first: &[u8]) -> io::Result<Header> {
    let mut error = match whole(disk, first, 0, MAGIC).await {
        Ok(json) => return parse(&json),
        Err(error) => error,
    };
    for at in SECOND {
        let Ok(binary) = luks::bytes(disk, at, BINARY).await else {
            break;
        };
        if binary.starts_with(SECOND_MAGIC) {
            match whole(disk, &binary, at, SECOND_MAGIC).await {
                Ok(json) => return parse(&json),
                Err(second) => error = second,
            }
        }
    }
    Err(error)
}

/// The JSON of the header at `at`, if its checksum is right.
async fn whole(disk: &AnyDisk, binary: &[u8], at: u64, magic: &[u8]) -> io::Result<Vec<u8>> {
    if !binary.starts_with(magic) {
        return Err(bad("there is no LUKS header"));
    }
    let long = |at: usize| binary[at..].first_chunk().map(|it| u64::from_be_bytes(*it));
    let version = u16::from_be_bytes([binary[6], binary[7]]);
    if version != 2 {
        return Err(bad(format!("version {version} is not known here")));
    }
    let size = long(8).unwrap_or(0);
    if !(0x4000..=0x40_0000).contains(&size) || long(256) != Some(at) {
        return Err(bad("the header is damaged"));
    }
    let mut all = luks::bytes(disk, at, size as usize).await?;
    let sum = all[CHECKSUM].to_vec();
    all[CHECKSUM.start..CHECKSUM_END].fill(0);
    let name = binary[72..104].split(|byte| *byte == 0).next();
    if name != Some(b"sha256") || Sha256::digest(&all)[..] != sum[..] {
        return Err(bad("the header's checksum is wrong"));
    }
    let json = all[BINARY..].split(|byte| *byte == 0).next();
    Ok(json.unwrap_or_default().to_vec())
}

/// Members of a JSON object, with errors that name them.
struct Object<'a>(&'a Map<String, Value>);

impl<'a> Object<'a> {
    fn of(value: &'a Value) -> io::Result<Self> {
        value
            .as_object()
            .map(Self)
            .ok_or_else(|| bad("the JSON is not as it should be"))
    }
    fn get(&self, name: &str) -> io::Result<&'a Value> {
        self.0
            .get(name)
            .ok_or_else(|| bad(format!("the JSON has no {name}")))
    }
    fn object(&self, name: &str) -> io::Result<Object<'a>> {
        Object::of(self.get(name)?)
    }
    fn text(&self, name: &str) -> io::Result<&'a str> {
        self.get(name)?
            .as_str()
            .ok_or_else(|| bad(format!("{name} is no text")))
    }
    /// A number, which is text where it may be large.
    fn number(&self, name: &str) -> io::Result<u64> {
        let value = self.get(name)?;
        let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
        number.ok_or_else(|| bad(format!("{name} is no number")))
    }
    fn small(&self, name: &str) -> io::Result<u32> {
        let number = self.number(name)?;
        number
            .try_into()
            .map_err(|_| bad(format!("{name} is {number}")))
    }
    fn bytes(&self, name: &str) -> io::Result<Vec<u8>> {
        let text = self.text(name)?;
        BASE64_STANDARD
            .decode(text)
            .map_err(|_| bad(format!("{name} is not in base64")))
    }
    fn lists(&self, name: &str, what: &str) -> bool {
        let list = self.0.get(name).and_then(Value::as_array);
        list.is_some_and(|list| list.iter().any(|it| it.as_str() == Some(what)))
    }
}

fn parse(json: &[u8]) -> io::Result<Header> {
    let json: Value = serde_json::from_slice(json).map_err(|error| bad(error.to_string()))?;
    let json = Object::of(&json)?;
    if let Some(needs) = json.object("config")?.0.get("requirements") {
        let needs = needs.get("mandatory").and_then(Value::as_array);
        if let Some(need) = needs.and_then(|needs| needs.first()) {
            return Err(bad(format!(
                "the volume needs {need}, which is not known here"
            )));
        }
    }
    let segments = json.object("segments")?;
    let (name, segment) = match segments.0.iter().next() {
        Some((name, segment)) if segments.0.len() == 1 => (name, Object::of(segment)?),
        _ => return Err(bad("the volume is not of one segment")),
    };
    let (kind, cipher) = (segment.text("type")?, segment.text("encryption")?);
    if kind != "crypt" || cipher != "aes-xts-plain64" || segment.0.contains_key("integrity") {
        return Err(bad(format!(
            "a segment of {kind}, {cipher}: not known here"
        )));
    }
    let sector = segment.small("sector_size")?;
    if !matches!(sector, 512 | 1024 | 2048 | 4096) {
        return Err(bad(format!("sectors of {sector} bytes")));
    }
    let size = match segment.text("size")? {
        "dynamic" => None,
        _ => Some(segment.number("size")?),
    };
    let digests = json.object("digests")?;
    let mut digests = digests.0.values().filter_map(|it| Object::of(it).ok());
    let digest = digests.find(|digest| digest.lists("segments", name));
    let digest = digest.ok_or_else(|| bad("the segment has no digest"))?;
    let check = Check {
        hash: Hash::named(digest.text("hash")?)?,
        iterations: digest.small("iterations")?,
        salt: digest.bytes("salt")?,
        digest: digest.bytes("digest")?,
    };
    let mut slots = Vec::new();
    for (name, value) in json.object("keyslots")?.0 {
        if digest.lists("keyslots", name) {
            // One that is not understood does not make the others useless.
            slots.extend(slot(name, &Object::of(value)?, &check).ok());
        }
    }
    Ok(Header {
        offset: segment.number("offset")?,
        size,
        sector,
        tweak: segment.number("iv_tweak")?,
        slots,
    })
}

fn slot(name: &str, slot: &Object, check: &Check) -> io::Result<Slot> {
    let (af, area, kdf) = (
        slot.object("af")?,
        slot.object("area")?,
        slot.object("kdf")?,
    );
    let cipher = area.text("encryption")?;
    if cipher != "aes-xts-plain64" {
        return Err(bad(format!("a keyslot of {cipher}")));
    }
    let salt = kdf.bytes("salt")?;
    let kdf = match kdf.text("type")? {
        "pbkdf2" => Kdf::Pbkdf2 {
            hash: Hash::named(kdf.text("hash")?)?,
            iterations: kdf.small("iterations")?,
            salt,
        },
        kind @ ("argon2i" | "argon2id") => Kdf::Argon2 {
            id: kind == "argon2id",
            time: kdf.small("time")?,
            kib: kdf.small("memory")?,
            lanes: kdf.small("cpus")?,
            salt,
        },
        kind => return Err(bad(format!("a keyslot of {kind}"))),
    };
    Ok(Slot {
        name: name.into(),
        kdf,
        key: slot.small("key_size")? as usize,
        area_key: area.small("key_size")? as usize,
        area: area.number("offset")?,
        stripes: af.small("stripes")? as usize,
        hash: Hash::named(af.text("hash")?)?,
        check: check.clone(),
    })
}

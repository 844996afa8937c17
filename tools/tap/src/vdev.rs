// SPDX-License-Identifier: GPL-2.0
//! The numbers of virtual devices, by name: Xen's `docs/man/xen-vbd-interface.7`.

/// The number of a device that is given as a number, or as a name such as `xvdb` or `xvdb1`.
///
/// # Errors
/// What would be right.
pub fn parse(text: &str) -> Result<u32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let wrong = || format!("\"{text}\" is neither a name such as xvdb nor a number such as 51728");
    let rest = text.strip_prefix("xvd").ok_or_else(wrong)?;
    let letters = rest.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &rest[letters.len()..];
    let is_name = !letters.is_empty() && letters.bytes().all(|b| b.is_ascii_lowercase());
    if !is_name || letters.len() > 4 {
        return Err(wrong());
    }
    // a to z, then aa, as the columns of a spreadsheet
    let disk = letters.bytes().fold(0, |number, letter| {
        number * 26 + u32::from(letter - b'a') + 1
    }) - 1;
    let partition: u32 = match digits {
        "" => 0,
        _ => digits.parse().map_err(|_| wrong())?,
    };
    match (disk, partition) {
        (0..16, 0..16) => Ok((202 << 8) | (disk << 4) | partition),
        (0..0x10_0000, 0..256) => Ok((1 << 28) | (disk << 8) | partition),
        _ => Err(wrong()),
    }
}

/// What a device of this number is called.
pub fn name(number: u32) -> Option<String> {
    let vdev = protocol::vdev::Vdev::new(number).ok()?;
    Some(vdev.name().to_string())
}

#[cfg(test)]
mod tests {
    use super::{name, parse};

    #[test]
    fn names_are_numbers() {
        assert_eq!(parse("51712"), Ok(51712));
        assert_eq!(parse("xvda"), Ok(51712));
        assert_eq!(parse("xvdb"), Ok(51728));
        assert_eq!(parse("xvdp15"), Ok(51967));
        assert_eq!(parse("xvdq"), Ok((1 << 28) | (16 << 8)));
        assert_eq!(parse("xvdaa2"), Ok((1 << 28) | (26 << 8) | 2));
        for text in ["xvda", "xvdb3", "xvdz", "xvdaa"] {
            assert_eq!(name(parse(text).unwrap()).as_deref(), Some(text));
        }
        for wrong in ["", "xvd", "sda", "xvdA", "xvda256", "xvdzzzzz", "xvd1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}

// SPDX-License-Identifier: GPL-2.0
//! What is read in an xl configuration file (xl.cfg(5)): the domain's name and its disks. All else
//! is xl's.

/// The value of `name`; the last one, as for xl.
///
/// The name must be one that can stand in a disk specification and in a file name.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let value = value(text, "name").ok_or("it has no name")?;
    let (inner, _) = string(value).ok_or("its name is not a string in quotes")?;
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    if inner.is_empty() || inner.starts_with('.') || !inner.chars().all(good) {
        return Err(format!("its name {inner:?} is not one that devmgr takes"));
    }
    Ok(inner.to_string())
}

/// The specifications in the list `disk`, as `xl block-attach` takes them.
pub(crate) fn disks(text: &str) -> Result<Vec<String>, String> {
    let Some(value) = value(text, "disk") else {
        return Ok(Vec::new());
    };
    let bad = "its disk is not a list of strings in quotes";
    let mut rest = value.strip_prefix('[').ok_or(bad)?;
    let mut disks = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if rest.starts_with('#') {
            rest = rest.split_once('\n').ok_or(bad)?.1;
        } else if rest.starts_with(']') {
            return Ok(disks);
        } else {
            let (disk, after) = string(rest).ok_or(bad)?;
            disks.push(disk.to_string());
            rest = after;
        }
    }
}

/// All that follows the last `key =` at the beginning of a line.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let lines = text.split_inclusive('\n').scan(0, |end, line| {
        let start = *end;
        *end += line.len();
        Some(&text[start..])
    });
    lines
        .filter_map(|rest| rest.split_once('='))
        .filter(|(left, _)| left.trim() == key)
        .map(|(_, value)| value.trim_start())
        .last()
}

/// The string in quotes at the beginning of `text`, and what follows it.
fn string(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (inner, rest) = text[1..].split_once(quote)?;
    (!inner.contains('\n')).then_some((inner, rest))
}

#[cfg(test)]
mod tests {
    use super::{disks, name};

    #[test]
    fn names() {
        for (text, wanted) in [
            ("name='drv'\nmemory=1", Ok("drv")),
            (
                "# name='a'\n  name = \"storage-1\"  # it\n",
                Ok("storage-1"),
            ),
            ("name='a'\nname='b'", Ok("b")),
            ("vif=['name=x']\nname='c'", Ok("c")),
            ("memory=1", Err("it has no name")),
            ("name=drv", Err("its name is not a string in quotes")),
            ("name='", Err("its name is not a string in quotes")),
        ] {
            assert_eq!(
                name(text),
                wanted.map(String::from).map_err(String::from),
                "{text}"
            );
        }
        for bad in [
            "name=''",
            "name='a b'",
            "name='a,b'",
            "name='../x'",
            "name='a/b'",
        ] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists_of_disks() {
        let list = |text: &str| disks(text).map_err(|_| ());
        let wanted = |disks: &[&str]| Ok(disks.iter().map(|disk| disk.to_string()).collect());
        assert_eq!(list("name='a'"), wanted(&[]));
        assert_eq!(list("disk = [ ]"), wanted(&[]));
        assert_eq!(
            list("disk=['a,b=c',\"d\",]\nx=['e']"),
            wanted(&["a,b=c", "d"])
        );
        assert_eq!(
            list("disk = [\n 'a', # 'no'\n  'b'\n ]\ndisk_x=['c']"),
            wanted(&["a", "b"])
        );
        assert_eq!(list("disk=['a']\ndisk=['b']"), wanted(&["b"]));
        for bad in ["disk='a'", "disk=['a'", "disk=[a]", "disk=['a", "disk=[#]"] {
            assert_eq!(list(bad), Err(()), "{bad}");
        }
    }
}

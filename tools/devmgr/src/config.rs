// SPDX-License-Identifier: GPL-2.0
//! What is read in an xl configuration file: the domain's name. All else is xl's.

/// The value of `name` in the text of a configuration (xl.cfg(5)); the last one, as for xl.
///
/// The name must be one that can stand in a disk specification and in a file name.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let value = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(key, _)| key.trim() == "name")
        .map(|(_, value)| value.trim())
        .next_back()
        .ok_or("it has no name")?;
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
    let inner = quote
        .and_then(|quote| value[1..].split_once(quote))
        .map(|(inner, _)| inner)
        .ok_or("its name is not a string in quotes")?;
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    if inner.is_empty() || inner.starts_with('.') || !inner.chars().all(good) {
        return Err(format!("its name {inner:?} is not one that devmgr takes"));
    }
    Ok(inner.to_string())
}

#[cfg(test)]
mod tests {
    use super::name;

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
}

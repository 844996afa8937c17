// SPDX-License-Identifier: GPL-2.0
//! The end of a program's man page: its extensions.

use crate::chain::Registry;
use std::fmt::Write;

/// In roff.
pub(super) fn end(registry: &Registry) -> String {
    let mut text = String::from(".SH EXTENSIONS\n");
    for entry in registry.entries() {
        let kind = if entry.filter { " (a filter)" } else { "" };
        let _ = writeln!(text, ".SS {}{kind}", plain(entry.name));
        for part in entry.help.split("\n\n") {
            let _ = writeln!(text, ".P\n{}", plain(part));
        }
        for option in entry.options {
            let name = plain(option.name);
            let _ = match option.default {
                Some(default) => writeln!(text, ".TP\n.BI {name}= {}", plain(default)),
                None if option.required => writeln!(text, ".TP\n.BR {name}= \" (required)\""),
                None => writeln!(text, ".TP\n.B {name}="),
            };
            let _ = writeln!(text, "{}", plain(option.help));
        }
    }
    text + ".SH SEE ALSO\n.BR tapctl (8)\n"
}

/// Text that roff leaves as it is.
fn plain(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let lines = text
        .lines()
        .map(|line| match line.starts_with(['.', '\'']) {
            true => format!("\\&{line}"),
            false => line.into(),
        });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_all_extensions() {
        let page = end(&Registry::new());
        assert!(page.contains("\n.SS raw\n") && page.contains("\n.SS noop (a filter)\n"));
        assert!(page.contains("\n.BR file= \" (required)\"\n"), "{page}");
        assert_eq!(plain(".a\\b\n'c-d"), "\\&.a\\eb\n\\&'c\\-d");
    }
}

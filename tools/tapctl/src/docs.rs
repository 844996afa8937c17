// SPDX-License-Identifier: GPL-2.0
//! Man page and completions, from the command line's definition.

use crate::args::{Args, Generated};
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::{self, Write};

const FILES: &str = r#".SH FILES
.TP
.I /run/blktap/DOMID\-HANDLE.log
what the program of a disk says; the other files beside it are for tapctl itself
.TP
.I /etc/xen/scripts/block\-tap
has xl start and end a chain with a guest's disk:
.BR "xl block\-attach GUEST 'script=block\-tap,vdev=xvdb,target=cow:base=/a.raw,delta=/b'" ;
target= is to come last
.SH SEE ALSO
.BR xl (1),
.BR xl\-disk\-configuration (5)
"#;

pub(crate) fn generate(what: Generated) -> io::Result<()> {
    let mut command = Args::command();
    let mut out = Vec::new();
    let shell = match what {
        Generated::Man => {
            man(command, &mut out)?;
            return io::stdout().write_all(&out);
        }
        Generated::Bash => Shell::Bash,
        Generated::Zsh => Shell::Zsh,
        Generated::Fish => Shell::Fish,
    };
    clap_complete::generate(shell, &mut command, "tapctl", &mut out);
    io::stdout().write_all(&out)
}

/// One page, with a section for each command.
fn man(mut command: clap::Command, out: &mut Vec<u8>) -> io::Result<()> {
    command.build();
    let page = clap_mangen::Man::new(command.clone()).section("8");
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    writeln!(out, ".SH COMMANDS")?;
    for command in command.get_subcommands() {
        if command.is_hide_set() || command.get_name() == "help" {
            continue;
        }
        let usage = command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").replace('-', "\\-");
        writeln!(out, ".SS {}", usage.replace('\n', " "))?;
        let about = command.get_long_about().or(command.get_about());
        writeln!(
            out,
            "{}",
            about.map(ToString::to_string).unwrap_or_default()
        )?;
        for arg in command.get_arguments() {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            if arg.is_hide_set() || arg.get_id() == "help" || help.is_empty() {
                continue;
            }
            writeln!(
                out,
                ".TP\n.B {}\n{help}",
                arg.to_string().replace('-', "\\-")
            )?;
        }
    }
    out.write_all(FILES.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_all_commands() {
        let mut out = Vec::new();
        man(Args::command(), &mut out).unwrap();
        let page = String::from_utf8(out).unwrap();
        for command in [
            "list", "show", "top", "attach", "detach", "upgrade", "restart",
        ] {
            assert!(page.contains(&format!(".SS tapctl {command}")), "{command}");
        }
        assert!(!page.contains("generate"));
    }
}

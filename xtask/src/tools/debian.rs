//! Programs and libraries from Debian's packages, unpacked instead of installed: that needs no root.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail, ensure};

use super::{exists, find, fresh, programs, ready};
use crate::workspace::{output, run as run_command};

/// Unpacks a package, and makes a program that runs it from there.
pub(super) fn program(package: &str, name: &str) -> anyhow::Result<PathBuf> {
    let files = unpack(package, name)?;
    let Some(unpacked) = ["usr/bin", "usr/sbin", "bin", "sbin"]
        .map(|part| files.join(part).join(name))
        .into_iter()
        .find(|path| path.exists())
    else {
        bail!("package {package} has no {name}");
    };
    let program = programs().join(name);
    fs::create_dir_all(programs())?;
    fs::write(&program, script(&unpacked, &libraries(&files)?))?;
    ready(program)
}

/// Unpacks a package, and copies a library out of it.
pub(super) fn library(package: &str, name: &str) -> anyhow::Result<PathBuf> {
    let files = unpack(package, name)?;
    let found = find(&files, name)?.with_context(|| format!("package {package} has no {name}"))?;
    let library = programs().join(name);
    fs::create_dir_all(programs())?;
    fs::copy(found, &library)?;
    Ok(library)
}

/// Unpacks a package, and all it needs that is not installed here, into a folder, and returns the folder of the files.
fn unpack(package: &str, name: &str) -> anyhow::Result<PathBuf> {
    ensure!(exists("apt-get") && exists("dpkg"), "which is not on the PATH, and got only from Debian's packages");
    let folder = fresh(package)?;
    let [archives, lists, files] = ["archives", "lists", "root"].map(|part| folder.join(part));
    for part in [&archives, &lists, &files] {
        fs::create_dir_all(part).with_context(|| format!("cannot make {}", part.display()))?;
    }
    let simulate = || output(apt(&["install", "--simulate", "--no-install-recommends", package]));
    // A machine may have been set up without lists of packages, and its own are not ours to change.
    let mut options = Vec::new();
    let plan = match simulate() {
        Ok(plan) => plan,
        Err(_) => {
            options = vec!["-o".to_owned(), format!("Dir::State::Lists={}", lists.display())];
            let with_lists = |args: &[&str]| {
                let mut command = apt(args);
                command.args(&options);
                output(command)
            };
            with_lists(&["update", "--quiet=2"])?;
            with_lists(&["install", "--simulate", "--no-install-recommends", package])?
        }
    };
    let packages = to_install(&plan);
    ensure!(!packages.is_empty(), "package {package} is installed, and there is no {name} that starts");
    let mut download = apt(&["download", "--quiet=2"]);
    download.args(&options).args(packages).current_dir(&archives);
    run_command(download)?;
    for archive in fs::read_dir(&archives)? {
        let mut extract = Command::new("dpkg");
        extract.arg("--extract").arg(archive?.path()).arg(&files);
        run_command(extract)?;
    }
    Ok(files)
}

fn apt(args: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    // Root, too, downloads as itself: the folder is not apt's.
    command.args(["-o", "APT::Sandbox::User=root"]).args(args).env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// Returns the packages that a simulated installation would install.
fn to_install(plan: &str) -> Vec<&str> {
    plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next()).collect()
}

/// Finds the folders of libraries among unpacked files.
fn libraries(files: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for top in ["usr/lib", "lib"].map(|top| files.join(top)).into_iter().filter(|top| top.is_dir()) {
        let inner = fs::read_dir(&top)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
        found.push(top);
        found.extend(inner.into_iter().filter(|path| path.is_dir()));
    }
    Ok(found)
}

/// A program that becomes another one, which finds its libraries where they were unpacked.
fn script(program: &Path, libraries: &[PathBuf]) -> String {
    let libraries: Vec<_> = libraries.iter().map(|folder| folder.display().to_string()).collect();
    let libraries = libraries.join(":");
    format!(
        "#!/bin/sh\nLD_LIBRARY_PATH='{libraries}'\"${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\" exec '{}' \"$@\"\n",
        program.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_names_what_would_be_installed_and_nothing_else() {
        let plan = "NOTE: This is only a simulation!\nInst liblzf1 (3.6-3 Debian:12 [amd64])\n\
                    Inst redis-tools (5:7.0 Debian:12 [amd64]) []\nConf liblzf1 (3.6-3 Debian:12 [amd64])\n";
        assert_eq!(to_install(plan), ["liblzf1", "redis-tools"]);
        assert!(to_install("").is_empty());
    }

    #[test]
    fn a_script_becomes_the_program_with_its_libraries_and_arguments() {
        let script = script(Path::new("/bin/echo"), &["/a/lib".into(), "/b/lib".into()]);
        let mut command = Command::new("sh");
        command.args(["-c", &script.replace("/bin/echo", "/usr/bin/env"), "name"]).env("LD_LIBRARY_PATH", "/before");
        let variables = output(command).unwrap();
        assert!(variables.contains("LD_LIBRARY_PATH=/a/lib:/b/lib:/before\n"), "{variables}");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "name", "one two", "three"]).env_remove("LD_LIBRARY_PATH");
        assert_eq!(output(command).unwrap(), "one two three\n");
    }
}

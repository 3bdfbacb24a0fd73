//! `cargo xtask tidy`: the repository's own rules, those that no other tool knows.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use crate::workspace::root;

/// Checks every rule, and prints all faults found.
///
/// # Errors
/// There are faults, or a file cannot be read.
pub(crate) fn run() -> anyhow::Result<()> {
    let faults = faults(&root())?;
    for fault in &faults {
        println!("{fault}");
    }
    if !faults.is_empty() {
        bail!("{} faults against the rules of the repository", faults.len());
    }
    println!("the repository is tidy");
    Ok(())
}

fn faults(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    let mut sources = Vec::new();
    collect_sources(root, &mut sources)?;
    sources.sort();
    for path in sources {
        let name = path.strip_prefix(root).unwrap_or(&path).display();
        faults.extend(source_faults(&read(&path)?).into_iter().map(|fault| format!("{name}: {fault}")));
    }

    let manifest = read(&root.join("Cargo.toml"))?;
    // Without a README there is nothing that could differ from the code.
    if root.join("README.md").exists() {
        let readme = read(&root.join("README.md"))?;
        faults.extend(msrv_fault(&manifest, &readme));
        faults.extend(quickstart_fault(&readme, &read(&root.join("examples/examples/quickstart.rs"))?));
    }
    if root.join("ARCHITECTURE.md").exists() {
        let architecture = read(&root.join("ARCHITECTURE.md"))?;
        let missing = backticked_paths(&architecture).into_iter().filter(|path| !exists(root, &manifest, path));
        faults.extend(missing.map(|path| format!("ARCHITECTURE.md: there is no `{path}`")));
    }
    Ok(faults)
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Finds every Rust file but those of build folders and hidden ones.
fn collect_sources(folder: &Path, sources: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name();
        if entry.file_type()?.is_dir() {
            if name != "target" && !name.as_encoded_bytes().starts_with(b".") {
                collect_sources(&path, sources)?;
            }
        } else if path.extension() == Some(OsStr::new("rs")) {
            sources.push(path);
        }
    }
    Ok(())
}

fn source_faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if !text.starts_with("//!") {
        faults.push("does not open with a `//!` line".to_owned());
    }
    for (at, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if let Some(stub) = STUBS.iter().find(|stub| code.contains(**stub)) {
            faults.push(format!("line {} holds `{stub}`", at + 1));
        }
    }
    faults
}

/// The README must name the version of Rust that the manifest asks for.
fn msrv_fault(manifest: &str, readme: &str) -> Option<String> {
    let version = |text: &str, before: &str| {
        let rest = text.split_once(before)?.1;
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        Some(rest[..end].trim_end_matches('.').to_owned())
    };
    let (asked, told) = (version(manifest, "rust-version = \""), version(readme, "MSRV: "));
    (asked.is_none() || asked != told)
        .then(|| format!("README.md: its MSRV is {told:?}, and the rust-version of Cargo.toml is {asked:?}"))
}

/// The README's first program must be the one that is compiled and run.
fn quickstart_fault(readme: &str, quickstart: &str) -> Option<String> {
    let header = |line: &&str| line.starts_with("//!") || line.trim().is_empty();
    let program: Vec<_> = quickstart.trim_end().lines().skip_while(header).collect();
    let Some(block) = first_rust_block(readme) else {
        return Some("README.md: it has no rust code block".to_owned());
    };
    let differs = (0..program.len().max(block.len())).find(|at| program.get(*at) != block.get(*at))?;
    let line = |lines: &[&str]| lines.get(differs).map_or_else(|| "nothing".to_owned(), |line| format!("{line:?}"));
    Some(format!(
        "README.md: line {} of its first program is {}, and in examples/examples/quickstart.rs {}",
        differs + 1,
        line(&block),
        line(&program)
    ))
}

fn first_rust_block(markdown: &str) -> Option<Vec<&str>> {
    let mut lines = markdown.lines().skip_while(|line| !line.starts_with("```rust"));
    lines.next()?;
    Some(lines.take_while(|line| !line.starts_with("```")).collect())
}

/// Returns what stands in backticks, outside of code blocks, and looks like a path: it has a slash, or the end of a file of ours.
fn backticked_paths(markdown: &str) -> Vec<&str> {
    let mut in_block = false;
    let prose = markdown.lines().filter(|line| {
        let fence = line.starts_with("```");
        in_block ^= fence;
        !fence && !in_block
    });
    let spans = prose.flat_map(|line| line.split('`').skip(1).step_by(2));
    let is_path = |span: &&str| {
        let plain = span.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
        let ends_as_file = FILE_ENDS.iter().any(|end| span.ends_with(end));
        plain && (span.contains('/') || ends_as_file)
    };
    spans.filter(is_path).collect()
}

/// Whether a path is there, from the root or from the sources of a crate.
fn exists(root: &Path, manifest: &str, path: &str) -> bool {
    let sources = members(manifest).map(|member| root.join(member).join("src"));
    sources.chain([root.to_owned()]).any(|folder| folder.join(path).exists())
}

/// The members of a workspace, as its manifest lists them one a line.
fn members(manifest: &str) -> impl Iterator<Item = &str> {
    let list = manifest.split_once("members = [").map_or("", |(_, rest)| rest);
    let list = list.split_once(']').map_or("", |(list, _)| list);
    list.split(',').map(|member| member.trim().trim_matches('"')).filter(|member| !member.is_empty())
}

/// What stands for code that is not there. In two parts, for this file is checked too.
const STUBS: &[&str] = &[concat!("todo", "!("), concat!("unimplemented", "!(")];
const FILE_ENDS: &[&str] = &[".rs", ".md", ".toml", ".csv"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_keeps_its_rules() {
        let faults = faults(&root()).unwrap();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    #[test]
    fn a_source_without_its_first_line_or_with_a_stub_is_a_fault() {
        assert!(source_faults("//! One concept.\nfn main() {}\n").is_empty());
        assert_eq!(source_faults("fn main() {}\n").len(), 1);
        let stub = format!("//! One concept.\nfn main() {{ {}) }}\n", STUBS[0]);
        assert_eq!(source_faults(&stub), [format!("line 2 holds `{}`", STUBS[0])]);
        let comment = format!("//! One concept.\n// no {}) here\n", STUBS[0]);
        assert!(source_faults(&comment).is_empty());
    }

    #[test]
    fn an_msrv_that_differs_or_is_missing_is_a_fault() {
        let manifest = "[workspace.package]\nrust-version = \"1.95\"\n";
        assert_eq!(msrv_fault(manifest, "MSRV: 1.95. Every gate"), None);
        assert_eq!(msrv_fault(manifest, "MSRV: 1.95"), None);
        assert!(msrv_fault(manifest, "MSRV: 1.90.").is_some());
        assert!(msrv_fault(manifest, "no word of it").is_some());
        assert!(msrv_fault("", "no word of it").is_some());
    }

    #[test]
    fn a_first_program_that_differs_is_a_fault() {
        let program = "//! Header.\n//! More.\n\nuse a;\n\nfn main() {}\n";
        let readme =
            |block: &str| format!("# Title\n\n```sh\nls\n```\n\n```rust\n{block}\n```\n\n```rust\nother\n```\n");
        assert_eq!(quickstart_fault(&readme("use a;\n\nfn main() {}"), program), None);
        assert!(quickstart_fault(&readme("use b;\n\nfn main() {}"), program).unwrap().contains("line 1"));
        assert!(quickstart_fault(&readme("use a;\n\nfn main() {}\nmore"), program).unwrap().contains("line 4"));
        assert!(quickstart_fault(&readme("use a;"), program).is_some());
        assert!(quickstart_fault("# Title\n", program).is_some());
    }

    #[test]
    fn paths_are_told_from_other_code() {
        let text = "See `a/b.rs`, `Cargo.toml`, `view.owner`, `&mut self` and `Cache`.\n```\n`c/d.rs`\n```\nAnd `e/f`.";
        assert_eq!(backticked_paths(text), ["a/b.rs", "Cargo.toml", "e/f"]);
    }

    #[test]
    fn a_path_may_start_at_the_root_or_at_a_crate_s_sources() {
        let manifest = read(&root().join("Cargo.toml")).unwrap();
        assert!(members(&manifest).any(|member| member == "xtask"));
        assert!(exists(&root(), &manifest, "xtask/src/tidy.rs"));
        assert!(exists(&root(), &manifest, "tidy.rs"));
        assert!(!exists(&root(), &manifest, "xtask/src/untidy.rs"));
    }
}

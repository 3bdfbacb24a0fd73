//! Packets that do not arrive: rules of nftables in the namespace of a node, each with a counter that proves it bit.

use std::{
    io::Write,
    net::Ipv4Addr,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

use super::netns;
use crate::{tools, workspace::output};

/// What becomes of packets that come in at a node.
#[derive(Debug, Clone)]
pub(super) enum Rule {
    /// None arrives from these.
    Cut(Vec<Ipv4Addr>),
    /// So many of a hundred are lost, whoever sent them.
    Lose(u8),
}

/// What the rules of a node counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// Packets of peers that came to the rules.
    pub(super) seen: u64,
    /// Those that were dropped.
    pub(super) dropped: u64,
}

/// Sets the rule of a namespace, in the place of any before it.
pub(super) fn set(namespace: &str, rule: &Rule) -> anyhow::Result<()> {
    clear(namespace)?;
    let mut command = nft(namespace);
    command.args(["-f", "-"]).stdin(Stdio::piped());
    let mut child = command.spawn().context("cannot start nft")?;
    child.stdin.take().context("its input was asked for")?.write_all(ruleset(rule).as_bytes())?;
    ensure!(child.wait()?.success(), "nft did not take the rule {rule:?}");
    Ok(())
}

/// Lets all packets pass again.
pub(super) fn clear(namespace: &str) -> anyhow::Result<()> {
    // Adding it first makes deleting it no error when it is not there.
    let mut command = nft(namespace);
    command.arg(format!("add table inet {TABLE}; delete table inet {TABLE}"));
    output(command).map(drop)
}

/// Returns what the rule of a namespace did so far; nothing, if there is none.
pub(super) fn counted(namespace: &str) -> anyhow::Result<Counted> {
    let mut command = nft(namespace);
    command.args(["list", "counters"]);
    parse(&output(command)?)
}

fn nft(namespace: &str) -> Command {
    let mut command = netns::inside(namespace);
    command.arg("nft").env("PATH", tools::path());
    command
}

fn ruleset(rule: &Rule) -> String {
    let drop = match rule {
        Rule::Cut(from) => {
            let from: Vec<_> = from.iter().map(ToString::to_string).collect();
            format!("ip saddr {{ {} }}", from.join(", "))
        }
        Rule::Lose(percent) => format!("numgen random mod 100 < {percent}"),
    };
    format!(
        "table inet {TABLE} {{
            counter seen {{}}
            counter dropped {{}}
            chain input {{
                type filter hook input priority 0; policy accept;
                iif lo accept
                counter name seen
                {drop} counter name dropped drop
            }}
        }}\n"
    )
}

fn parse(listed: &str) -> anyhow::Result<Counted> {
    if listed.trim().is_empty() {
        return Ok(Counted::default());
    }
    let packets = |name: &str| {
        let rest = listed.split_once(&format!("counter {name} {{"))?.1;
        rest.split_whitespace().skip_while(|word| *word != "packets").nth(1)?.parse().ok()
    };
    let counted = packets("seen").zip(packets("dropped")).map(|(seen, dropped)| Counted { seen, dropped });
    counted.with_context(|| format!("nft lists no counters: {listed}"))
}

const TABLE: &str = "distcache";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_as_nft_lists_them() {
        let listed = "table inet distcache {\n\tcounter seen {\n\t\tpackets 120 bytes 9000\n\t}\n\
                      \tcounter dropped {\n\t\tpackets 24 bytes 1800\n\t}\n}\n";
        assert_eq!(parse(listed).unwrap(), Counted { seen: 120, dropped: 24 });
        assert_eq!(parse("\n").unwrap(), Counted::default(), "there is no rule");
        assert!(parse("table inet distcache {\n}\n").is_err());
    }

    #[test]
    fn a_cut_names_whose_packets_do_not_arrive() {
        let rules = ruleset(&Rule::Cut(vec![Ipv4Addr::new(10, 77, 0, 1), Ipv4Addr::new(10, 77, 0, 2)]));
        assert!(rules.contains("ip saddr { 10.77.0.1, 10.77.0.2 } counter name dropped drop"), "{rules}");
    }
}

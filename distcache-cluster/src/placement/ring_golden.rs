//! The ring of every build is the ring of the golden files: a compiler, a crate or a change here that moves a key fails.

use std::fmt::Write;

use super::*;
use crate::placement::KeyspaceSeed;

/// What is pinned: keyspaces, and their members with their weights. Only the writer uses it; the file says it all again.
fn pinned() -> [(&'static str, Vec<(String, u16)>); 5] {
    let equal = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 100)).collect();
    let weights = [50, 100, 200, 100, 150, 400, 75, 100].into_iter();
    [
        ("users", equal(&["cache-0", "cache-1", "cache-2", "10.0.0.4:3320", "ein Knoten"])),
        ("cities", equal(&["shop-cache-7d4b9c6f5-x2k8p", "shop-cache-7d4b9c6f5-lw94c", "shop-cache-7d4b9c6f5-zz5vq"])),
        ("sessions", (1..).zip(weights).map(|(n, weight)| (format!("10.0.0.{n}:3320"), weight)).collect()),
        ("Preise/€", (1..=64_u128).map(|n| (format!("{:032x}", n * (u128::MAX / 97)), 100)).collect()),
        ("k", vec![("heavy".to_owned(), 1_000), ("light".to_owned(), 1), ("[fd00::7]:3320".to_owned(), 100)]),
    ]
}

/// Short and long, for the hash takes another way at 17, 129 and 241 bytes; ASCII and not; empty once.
fn pinned_key(n: usize) -> String {
    match n % 16 {
        _ if n == 0 => String::new(),
        15 => format!("{n:0width$}", width = n * 31 % 290),
        remainder if remainder % 3 == 0 => format!("user:{n}"),
        remainder if remainder % 3 == 1 => format!("k{}/ö {n}", n * 7_919),
        _ => format!("shop/{}/cart,{n}", n % 17),
    }
}

#[test]
fn ten_thousand_keys_of_five_clusters_are_where_they_always_were() {
    let (mut seed, mut members, mut ring) = (KeyspaceSeed::of(""), Vec::new(), Ring::new(&[]));
    let mut keys = 0;
    for line in include_str!("../../tests/golden/placement-10k.csv").lines().filter(|line| !line.starts_with('#')) {
        let (kind, rest) = line.split_once(',').expect("kind,...");
        match kind {
            "keyspace" => (seed, members) = (KeyspaceSeed::of(rest), Vec::new()),
            "member" => {
                let (weight, name) = rest.split_once(',').expect("weight,name");
                members.push((NodeName::new(name).unwrap(), weight.parse().unwrap()));
            }
            "fingerprint" => {
                ring = Ring::new(&members);
                assert_eq!(format!("{:016x}", ring.fingerprint()), rest, "of {members:?}");
            }
            "key" => {
                let (order, key) = rest.split_once(',').expect("order,key");
                assert_eq!(told(ring.preference(seed.hash(key))), order, "who serves {key:?}");
                assert_eq!(ring.owner(seed.hash(key)).unwrap().index().to_string(), order.split(' ').next().unwrap());
                keys += 1;
            }
            other => panic!("no kind of line: {other}"),
        }
    }
    assert_eq!(keys, 10_000);
}

#[test]
fn the_first_vectors_hold() {
    let members = ["cache-0", "cache-1", "cache-2", "10.0.0.4:3320", "ein Knoten"];
    let members = members.map(|name| (NodeName::new(name).unwrap(), 100));
    let (ring, names, seed) = (Ring::new(&members), sorted(&members), KeyspaceSeed::of("users"));
    let mut keys = 0;
    for line in include_str!("../../tests/golden/placement.csv").lines().filter(|line| !line.starts_with('#')) {
        let (key, owner) = line.split_once(',').expect("key,owner");
        assert_eq!(names[ring.owner(seed.hash(key)).unwrap().index()].0.as_str(), owner, "owner of {key:?}");
        keys += 1;
    }
    assert_eq!(keys, 256);
    assert_eq!(ring.fingerprint(), 0x45fa_c4f9_2b05_4d41);
}

#[test]
#[ignore = "writes the golden file anew: only for a change of the placement algorithm, which is a break"]
fn write_golden_vectors() {
    let mut file = String::from(
        "# Who serves a key: its owner, then the successors, as places of the members in order of name (as bytes).\n\
         # keyspace,name | member,weight,name | fingerprint,of the members | key,order,key\n",
    );
    for (keyspace, members) in pinned() {
        let named: Vec<_> = members.iter().map(|(name, weight)| (NodeName::new(name).unwrap(), *weight)).collect();
        let (seed, ring) = (KeyspaceSeed::of(keyspace), Ring::new(&named));
        writeln!(file, "keyspace,{keyspace}").unwrap();
        members.iter().for_each(|(name, weight)| writeln!(file, "member,{weight},{name}").unwrap());
        writeln!(file, "fingerprint,{:016x}", ring.fingerprint()).unwrap();
        for key in (0..2_000).map(pinned_key) {
            writeln!(file, "key,{},{key}", told(ring.preference(seed.hash(&key)))).unwrap();
        }
    }
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/placement-10k.csv"), file).unwrap();
}

fn told(order: Preference) -> String {
    order.iter().map(|slot| slot.index().to_string()).collect::<Vec<_>>().join(" ")
}

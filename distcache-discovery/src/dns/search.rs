//! The names to try for one that may be relative, as resolv.conf(5) has it.

use hickory_resolver::proto::rr::Name;

/// Where relative names are looked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Search {
    pub(super) domains: Vec<Name>,
    /// A name with at least this many dots is tried as it is before any domain is appended.
    pub(super) ndots: usize,
}

impl Search {
    /// Lists the absolute names to try for `name`, in this order.
    pub(super) fn candidates(&self, name: &Name) -> Vec<Name> {
        if name.is_fqdn() {
            return vec![name.clone()];
        }
        let mut absolute = name.clone();
        absolute.set_fqdn(true);
        let dots = usize::from(name.num_labels()).saturating_sub(1);
        // One that becomes too long is no name.
        let appended =
            self.domains.iter().take(MAX_DOMAINS).filter_map(|domain| name.clone().append_domain(domain).ok());
        let mut names: Vec<Name> = appended.collect();
        let place = if dots >= self.ndots { 0 } else { names.len() };
        names.insert(place, absolute);
        let mut seen = Vec::new();
        names.retain(|name| {
            let new = !seen.contains(name);
            seen.push(name.clone());
            new
        });
        names
    }
}

/// As many as the C library's resolver took until it took any number.
const MAX_DOMAINS: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(domains: &[&str], ndots: usize, name: &str) -> Vec<String> {
        let domains = domains.iter().map(|domain| Name::from_ascii(domain).unwrap()).collect();
        let names = Search { domains, ndots }.candidates(&Name::from_ascii(name).unwrap());
        names.iter().map(ToString::to_string).collect()
    }

    const PODS: [&str; 3] = ["default.svc.cluster.local.", "svc.cluster.local.", "cluster.local"];

    #[test]
    fn a_name_with_a_final_dot_stands_alone() {
        assert_eq!(candidates(&PODS, 5, "cache."), ["cache."]);
    }

    #[test]
    fn a_short_name_is_tried_in_each_domain_first_and_a_long_one_last() {
        let in_pod = ["default.svc.cluster.local.", "svc.cluster.local.", "cluster.local."];
        let mut wanted: Vec<_> = in_pod.iter().map(|domain| format!("cache.{domain}")).collect();
        wanted.push("cache.".to_owned());
        assert_eq!(candidates(&PODS, 5, "cache"), wanted);
        assert_eq!(candidates(&PODS[2..], 1, "cache.example"), ["cache.example.", "cache.example.cluster.local."]);
        assert_eq!(candidates(&[], 1, "cache"), ["cache."]);
    }

    #[test]
    fn what_cannot_be_a_name_or_repeats_is_left_out() {
        let long = ["a"; 125].join(".");
        assert_eq!(candidates(&[&long, "b.", "B.", "."], 1, "cache.example"), ["cache.example.", "cache.example.b."]);
        assert_eq!(candidates(&["a", "b", "c", "d", "e", "f", "g", "h"], 1, "x").len(), MAX_DOMAINS + 1);
    }
}

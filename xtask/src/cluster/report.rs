//! What a scenario found: figures beside their bounds, and whether it tested anything at all.

use std::fmt;

/// What came of a scenario.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(super) notes: Vec<String>,
    pub(crate) figures: Vec<Figure>,
    /// Why it proves nothing: its fault did not fire, or there was too little traffic.
    pub(super) void: Vec<String>,
}

/// Something that was measured.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) bound: Option<Bound>,
    /// Whether missing the bound is an error: so for what must be right, and not for what takes time on a machine that may be busy.
    gate: bool,
}

/// What a figure must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
    Exactly(f64),
}

impl Report {
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Tells a figure that is bound to nothing.
    pub(super) fn tell(&mut self, name: impl Into<String>, value: f64) {
        self.figures.push(Figure { name: name.into(), value, bound: None, gate: false });
    }

    /// Tells a figure of time: missing its bound is told, and no error.
    pub(super) fn aim(&mut self, name: impl Into<String>, value: f64, bound: Bound) {
        self.figures.push(Figure { name: name.into(), value, bound: Some(bound), gate: false });
    }

    /// Tells a figure that has to be within its bound.
    pub(super) fn require(&mut self, name: impl Into<String>, value: f64, bound: Bound) {
        self.figures.push(Figure { name: name.into(), value, bound: Some(bound), gate: true });
    }

    /// Tells how long views took to become what they should, and requires that they did.
    pub(super) fn views(&mut self, name: &str, seconds: f64, came_about: bool) {
        self.aim(name, seconds, Bound::AtMost(PROMISED_VIEWS));
        if !came_about {
            self.require(format!("{name}: not at all"), 1.0, Bound::Exactly(0.0));
        }
    }

    /// Makes the scenario void unless something is so.
    pub(super) fn void_unless(&mut self, proved: bool, why: impl Into<String>) {
        if !proved {
            self.void.push(why.into());
        }
    }

    pub(crate) fn figure(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }

    /// Says what makes the scenario fail, if anything does.
    pub(crate) fn fault(&self) -> Option<String> {
        if !self.void.is_empty() {
            return Some(format!("VOID: {}", self.void.join("; ")));
        }
        let missed = self.figures.iter().filter(|figure| figure.gate && figure.is_missed());
        let missed: Vec<_> = missed.map(ToString::to_string).collect();
        (!missed.is_empty()).then(|| missed.join("; "))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.figures.iter().try_for_each(|figure| writeln!(f, "  {figure}"))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "  {note}"))?;
        self.void.iter().try_for_each(|why| writeln!(f, "  VOID: {why}"))
    }
}

impl Figure {
    fn is_missed(&self) -> bool {
        self.bound.is_some_and(|bound| !bound.holds(self.value))
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<44}{:>10.2}", self.name, self.value)?;
        match self.bound {
            None => Ok(()),
            Some(bound) => write!(f, " {bound} {}", if self.is_missed() { "missed" } else { "reached" }),
        }
    }
}

impl Bound {
    /// Judges the figure to the two places that are printed, so that a line never contradicts itself.
    pub(crate) fn holds(self, figure: f64) -> bool {
        let figure = (figure * 100.0).round() / 100.0;
        match self {
            Self::AtLeast(bound) => figure >= bound,
            Self::AtMost(bound) => figure <= bound,
            Self::Exactly(bound) => figure == bound,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, ">={bound:.2}"),
            Self::AtMost(bound) => write!(f, "<={bound:.2}"),
            Self::Exactly(bound) => write!(f, "=={bound:.2}"),
        }
    }
}

/// What the targets promise of views, in seconds.
pub(super) const PROMISED_VIEWS: f64 = 10.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_time_is_told_and_a_missed_requirement_fails() {
        let mut report = Report::default();
        report.aim("seconds", 2.0, Bound::AtMost(1.0));
        assert!(report.fault().is_none());
        assert!(report.to_string().contains("<=1.00 missed"), "{report}");
        report.require("errors", 1.0, Bound::Exactly(0.0));
        assert!(report.fault().unwrap().contains("==0.00 missed"));
    }

    #[test]
    fn views_that_are_late_are_told_and_views_that_never_come_fail() {
        let mut report = Report::default();
        report.views("out", 12.0, true);
        assert!(report.to_string().contains("missed") && report.fault().is_none());
        report.views("back", 15.0, false);
        assert!(report.fault().unwrap().contains("back: not at all"));
    }

    #[test]
    fn a_void_scenario_fails_whatever_its_figures_say() {
        let mut report = Report::default();
        report.require("errors", 0.0, Bound::Exactly(0.0));
        report.void_unless(true, "so");
        assert!(report.fault().is_none());
        report.void_unless(false, "nobody was killed");
        assert_eq!(report.fault().unwrap(), "VOID: nobody was killed");
    }
}

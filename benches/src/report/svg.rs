//! Just enough SVG for plots: panels with axes, lines and bars, and a legend. Dark text on a light ground.

use std::fmt::Write;

/// A drawing that grows.
pub(super) struct Drawing {
    width: f64,
    height: f64,
    body: String,
}

/// Where a plot's values lie in a drawing.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    /// The value at the top; the one at the bottom is zero.
    pub(super) most: f64,
}

/// How text lies about its place.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a line looks.
#[derive(Clone, Copy)]
pub(super) struct Stroke {
    pub(super) colour: &'static str,
    pub(super) width: f64,
    pub(super) dashed: bool,
}

impl Drawing {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    pub(super) fn finish(self) -> String {
        let Self { width, height, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
        )
    }

    pub(super) fn text(&mut self, x: f64, y: f64, anchor: Anchor, text: &str) {
        self.styled_text(x, y, anchor, "", text);
    }

    pub(super) fn title(&mut self, x: f64, y: f64, text: &str) {
        self.styled_text(x, y, Anchor::Start, " font-size=\"14\" font-weight=\"bold\"", text);
    }

    fn styled_text(&mut self, x: f64, y: f64, anchor: Anchor, style: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.element(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{INK}\"{style}>{text}</text>"
        ));
    }

    pub(super) fn line(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        let points: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let dashes = if stroke.dashed { " stroke-dasharray=\"5 3\"" } else { "" };
        self.element(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\"{dashes}/>",
            points.join(" "),
            stroke.colour,
            stroke.width
        ));
    }

    pub(super) fn bar(&mut self, x: f64, y: f64, width: f64, height: f64, colour: &str) {
        self.element(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
        ));
    }

    /// Draws the lines and numbers of a panel's values.
    pub(super) fn scale(&mut self, panel: &Panel, unit: &str) {
        let step = step(panel.most);
        let lines = (panel.most / step + 1e-6).floor() as u32;
        for value in (0..=lines).map(|at| step * f64::from(at)) {
            let y = panel.y(value);
            let stroke = Stroke { colour: if value == 0.0 { INK } else { GRID }, width: 1.0, dashed: false };
            self.line(&[(panel.left, y), (panel.left + panel.width, y)], stroke);
            // To three places: a step of a tenth is not quite one.
            let value = (value * 1e3).round() / 1e3;
            self.text(panel.left - 6.0, y + 4.0, Anchor::End, &format!("{value}{unit}"));
        }
    }

    /// Draws samples of colours and their names in rows.
    pub(super) fn legend(&mut self, x: f64, y: f64, entries: &[(&str, Stroke)]) {
        let columns = ((self.width - x) / LEGEND_COLUMN).floor().max(1.0) as usize;
        for (at, (name, stroke)) in entries.iter().enumerate() {
            let x = x + LEGEND_COLUMN * (at % columns) as f64;
            let y = y + LEGEND_ROW * (at / columns) as f64;
            self.line(&[(x, y - 4.0), (x + 24.0, y - 4.0)], Stroke { width: stroke.width.max(3.0), ..*stroke });
            self.text(x + 30.0, y, Anchor::Start, name);
        }
    }

    fn element(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.body, "{element}").expect("a string takes whatever is written");
    }
}

impl Panel {
    pub(super) fn y(&self, value: f64) -> f64 {
        self.top + self.height * (1.0 - value / self.most)
    }
}

/// Returns a round number that goes four to eight times, or so, into the largest value.
fn step(most: f64) -> f64 {
    let power = 10_f64.powf((most / 4.0).log10().floor());
    let times = most / 4.0 / power;
    let round = [5.0, 2.0, 1.0].into_iter().find(|round| *round <= times);
    round.unwrap_or(1.0) * power
}

const INK: &str = "#222222";
const GRID: &str = "#dddddd";
const LEGEND_COLUMN: f64 = 150.0;
const LEGEND_ROW: f64 = 18.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_have_round_steps() {
        for (most, expected) in [(100.0, 20.0), (12.0, 2.0), (4.0, 1.0), (0.5, 0.1), (21.0, 5.0)] {
            assert!((step(most) - expected).abs() < 1e-9, "{most}: {}", step(most));
        }
    }

    #[test]
    fn a_panel_has_zero_at_the_bottom() {
        let panel = Panel { left: 0.0, top: 10.0, width: 50.0, height: 100.0, most: 4.0 };
        assert_eq!((panel.y(0.0), panel.y(4.0), panel.y(1.0)), (110.0, 10.0, 85.0));
    }

    #[test]
    fn text_cannot_end_an_element() {
        let mut drawing = Drawing::new(10.0, 10.0);
        drawing.text(0.0, 0.0, Anchor::Start, "a<b&c");
        assert!(drawing.finish().contains("a&lt;b&amp;c"));
    }
}

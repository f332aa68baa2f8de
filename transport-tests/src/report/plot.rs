//! A plot over time as SVG. The drawing has placeholder colours; a style sheet inside gives them their values, so that
//! one file reads on a light and on a dark ground.

use std::fmt::Write as _;

use plotters::prelude::*;

use super::escaped;

const SIZE: (u32, u32) = (860, 300);
/// Room above the drawing for title and legend.
const HEAD: u32 = 46;
/// Points a series keeps in the drawing: two a column show every extreme.
const COLUMNS: usize = 700;
const FONT: (&str, u32) = ("sans-serif", 14);

/// Colours as the drawing library writes them, and the variables that replace them.
const INK: RGBColor = RGBColor(1, 0, 1);
const GRID: RGBColor = RGBColor(2, 0, 2);
const MARK: RGBColor = RGBColor(3, 0, 3);
const SERIES: u8 = 16;

/// Light and dark value of each series (Okabe and Ito, 2008, brightened for the dark ground).
const PALETTE: [(&str, &str); 8] = [
    ("#0068a8", "#4db8ff"),
    ("#c85200", "#ff9a4d"),
    ("#00805d", "#3ddbab"),
    ("#a63d82", "#f28ed0"),
    ("#8a6d00", "#ecc94b"),
    ("#5b4bc4", "#ab9dff"),
    ("#b3261e", "#ff8a80"),
    ("#4f5b66", "#b0bec5"),
];

/// One line of a plot. A point whose `y` is not a number breaks the line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// In order of x.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// A named line.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self {
            name: name.into(),
            points,
        }
    }
}

/// A plot: lines over one pair of axes, and moments marked in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plot {
    /// Above the plot.
    pub title: String,
    /// Quantity and unit of the horizontal axis.
    pub x_label: String,
    /// Quantity and unit of the vertical axis.
    pub y_label: String,
    /// The lines; colours repeat after eight.
    pub series: Vec<Series>,
    /// Vertical lines with a word to them.
    pub marks: Vec<(f64, String)>,
}

impl Plot {
    /// The plot as an SVG element that stands alone and inside a page.
    pub fn svg(&self) -> String {
        let mut drawing = String::new();
        if let Err(error) = self.draw(&mut drawing) {
            return format!("<p>{}</p>", escaped(&format!("no plot: {error}")));
        }
        let (width, height) = SIZE;
        let body = drawing
            .find('>')
            .map_or("", |end| drawing[end + 1..].trim_end().trim_end_matches("</svg>"));
        format!(
            "<svg class=\"plot\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {}\" role=\"img\" aria-label=\"{title}\">\n\
             <style>{}</style>\n<text x=\"8\" y=\"16\" font-family=\"sans-serif\" font-size=\"14\" font-weight=\"bold\" fill=\"var(--ink)\">{title}</text>\n\
             {}<g transform=\"translate(0 {HEAD})\">{}</g>\n</svg>\n",
            height + HEAD,
            style(),
            self.legend(),
            coloured(body),
            title = escaped(&self.title),
        )
    }

    fn draw(&self, out: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let (x, y) = self.ranges();
        let root = SVGBackend::with_string(out, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin_right(14)
            .margin_top(4)
            .x_label_area_size(40)
            .y_label_area_size(66)
            .build_cartesian_2d(x.0..x.1, y.0..y.1)?;
        chart
            .configure_mesh()
            .x_desc(self.x_label.as_str())
            .y_desc(self.y_label.as_str())
            .x_labels(10)
            .y_labels(6)
            .x_label_formatter(&|at| number(*at, x.1 - x.0))
            .y_label_formatter(&|at| number(*at, y.1 - y.0))
            .axis_style(INK)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .label_style(FONT.into_font().color(&INK))
            .axis_desc_style(FONT.into_font().color(&INK))
            .draw()?;
        for (index, series) in self.series.iter().enumerate() {
            let colour = RGBColor(SERIES + (index % PALETTE.len()) as u8, 0, 9);
            for run in thinned(&series.points, x) {
                chart.draw_series(LineSeries::new(run, colour.stroke_width(2)))?;
            }
        }
        let mut free_from = f64::NEG_INFINITY;
        for (at, label) in self.marks.iter().filter(|(at, _)| (x.0..=x.1).contains(at)) {
            chart.draw_series(LineSeries::new([(*at, y.0), (*at, y.1)], MARK))?;
            // A word only where the one before it has ended.
            if *at >= free_from {
                let style = (FONT.0, 13).into_font().color(&MARK);
                chart.draw_series([Text::new(format!("\u{a0}{label}"), (*at, y.1), style)])?;
                free_from = at + (x.1 - x.0) * (label.len() as f64 + 2.0) * 6.6 / f64::from(SIZE.0 - 80);
            }
        }
        root.present()?;
        Ok(())
    }

    /// Axes that hold every point; the vertical one begins at zero unless something lies below.
    fn ranges(&self) -> ((f64, f64), (f64, f64)) {
        let mut x = (f64::INFINITY, f64::NEG_INFINITY);
        let mut y = (0.0_f64, 0.0_f64);
        let points = self.series.iter().flat_map(|series| &series.points);
        for point in points.filter(|point| point.0.is_finite() && point.1.is_finite()) {
            x = (x.0.min(point.0), x.1.max(point.0));
            y = (y.0.min(point.1), y.1.max(point.1));
        }
        for (at, _) in &self.marks {
            x = (x.0.min(*at), x.1.max(*at));
        }
        // Time begins at zero, also where the first sample comes a moment later.
        if x.0 > 0.0 && x.0 < 0.1 * x.1 {
            x.0 = 0.0;
        }
        if x.0 > x.1 {
            x = (0.0, 1.0);
        }
        if x.0 == x.1 {
            x.1 = x.0 + 1.0;
        }
        if y.0 == y.1 {
            y.1 = y.0 + 1.0;
        }
        // Room for the words of the marks.
        let room = if self.marks.is_empty() { 0.05 } else { 0.12 };
        (x, (y.0, y.1 + (y.1 - y.0) * room))
    }

    fn legend(&self) -> String {
        let mut out = String::new();
        let mut at = 8.0;
        for (index, series) in self.series.iter().enumerate() {
            let colour = index % PALETTE.len();
            let _ = writeln!(
                out,
                "<rect x=\"{at:.0}\" y=\"29\" width=\"14\" height=\"4\" fill=\"var(--s{colour})\"/><text x=\"{:.0}\" y=\"35\" font-family=\"sans-serif\" font-size=\"12\" fill=\"var(--ink)\">{}</text>",
                at + 19.0,
                escaped(&series.name)
            );
            at += 40.0 + 6.8 * series.name.chars().count() as f64;
        }
        out
    }
}

/// At most two points a column, the lowest and the highest, in runs without a gap.
fn thinned(points: &[(f64, f64)], x: (f64, f64)) -> Vec<Vec<(f64, f64)>> {
    let runs = points.split(|point| !point.0.is_finite() || !point.1.is_finite());
    let column = |at: f64| ((at - x.0) / (x.1 - x.0) * COLUMNS as f64) as usize;
    let thin = |run: &[(f64, f64)]| -> Vec<(f64, f64)> {
        if run.len() <= 2 * COLUMNS {
            return run.to_vec();
        }
        let mut kept = Vec::new();
        for group in run.chunk_by(|a, b| column(a.0) == column(b.0)) {
            let by_height = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
            let ends = (group.iter().min_by(by_height), group.iter().max_by(by_height));
            let (Some(low), Some(high)) = ends else { continue };
            let (first, second) = if low.0 <= high.0 { (low, high) } else { (high, low) };
            kept.push(*first);
            if second != first {
                kept.push(*second);
            }
        }
        kept
    };
    runs.filter(|run| !run.is_empty()).map(thin).collect()
}

/// As many decimals as the span of the axis needs.
fn number(value: f64, span: f64) -> String {
    let decimals = (2.0 - span.log10().floor()).clamp(0.0, 6.0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    } else {
        text
    }
}

/// Puts variables where the drawing has placeholder colours.
fn coloured(drawing: &str) -> String {
    let mut out = drawing.to_string();
    for (colour, variable) in [("#010001", "--ink"), ("#020002", "--grid"), ("#030003", "--mark")] {
        out = out.replace(&format!("\"{colour}\""), &format!("\"var({variable})\""));
    }
    for index in 0..PALETTE.len() {
        let placeholder = format!("\"#{:02X}0009\"", SERIES as usize + index);
        out = out.replace(&placeholder, &format!("\"var(--s{index})\""));
    }
    out
}

fn style() -> String {
    let variables = |dark: bool| -> String {
        let of = |(index, (light, night)): (usize, &(&str, &str))| {
            format!("--s{index}:{};", if dark { night } else { light })
        };
        PALETTE.iter().enumerate().map(of).collect::<Vec<_>>().concat()
    };
    format!(
        "svg.plot{{--ink:#24292f;--grid:#d9dee3;--mark:#7a828a;{}max-width:100%}}\
         @media (prefers-color-scheme: dark){{svg.plot{{--ink:#d8dee4;--grid:#333b44;--mark:#8b949e;{}}}}}",
        variables(false),
        variables(true)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot() -> Plot {
        Plot {
            title: "Goodput <1 & 2>".into(),
            x_label: "time, s".into(),
            y_label: "Mbit/s".into(),
            series: (0..9)
                .map(|line| {
                    let points = (0..5).map(|x| (f64::from(x), f64::from(line + x))).collect();
                    Series::new(format!("flow {line}"), points)
                })
                .collect(),
            marks: vec![(2.0, "outage".into())],
        }
    }

    #[test]
    fn every_colour_is_a_variable_and_every_text_is_escaped() {
        let svg = plot().svg();
        let drawn = svg.split("</style>").nth(1).unwrap();
        assert!(
            !drawn.contains("\"#"),
            "a colour that one ground swallows: {drawn}"
        );
        for wanted in [
            "var(--s0)",
            "var(--s7)",
            "var(--grid)",
            "time, s",
            "Mbit/s",
            "outage",
            "flow 8",
        ] {
            assert!(drawn.contains(wanted), "{wanted} is not in the drawing");
        }
        assert!(svg.contains("Goodput &lt;1 &amp; 2&gt;") && svg.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn an_empty_plot_is_a_plot() {
        assert!(Plot::default().svg().ends_with("</svg>\n"));
    }

    #[test]
    fn thinning_keeps_the_extremes_and_the_gaps() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|at| (f64::from(at), 1.0)).collect();
        points[31_337].1 = 99.0;
        points[60_000].1 = f64::NAN;
        let runs = thinned(&points, (0.0, 100_000.0));
        assert_eq!(runs.len(), 2, "a gap stays a gap");
        assert!(runs.concat().len() < 3 * COLUMNS);
        assert!(runs.concat().contains(&(31_337.0, 99.0)));
    }

    #[test]
    fn labels_have_the_decimals_their_axis_needs() {
        assert_eq!(
            [
                number(0.0, 60.0),
                number(7.5, 60.0),
                number(0.025, 0.1),
                number(1500.0, 4000.0)
            ],
            ["0", "7.5", "0.025", "1500"]
        );
    }
}

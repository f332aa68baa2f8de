//! Pages for people and tables for programs: plots as inline SVG, self-contained HTML, CSV.
//!
//! Nothing here needs a script, a font or a network; everything reads in light and dark.

use std::fmt::Write as _;

mod page;
mod plot;

pub use page::{Cell, Page};
pub use plot::{Plot, Series};

/// All points of all plots, one a line: `plot,series,x,y`; marks have the series `mark` and their label as `y`.
pub fn csv<'a>(plots: impl IntoIterator<Item = &'a Plot>) -> String {
    let mut out = String::from("plot,series,x,y\n");
    for plot in plots {
        let title = quoted(&plot.title);
        for series in &plot.series {
            let name = quoted(&series.name);
            for (x, y) in series
                .points
                .iter()
                .filter(|(x, y)| x.is_finite() && y.is_finite())
            {
                let _ = writeln!(out, "{title},{name},{x},{y}");
            }
        }
        for (x, label) in &plot.marks {
            let _ = writeln!(out, "{title},mark,{x},{}", quoted(label));
        }
    }
    out
}

/// A field of RFC 4180: in quotes where it must be.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_string()
    }
}

/// Text that is safe between tags and in attributes.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_has_every_point_once_and_quotes_what_it_must() {
        let plot = Plot {
            title: "a, \"b\"".into(),
            series: vec![Series::new("up", vec![(0.0, 1.0), (0.5, 2.5), (1.0, f64::NAN)])],
            marks: vec![(0.25, "rate".into())],
            ..Plot::default()
        };
        let expected = "plot,series,x,y\n\"a, \"\"b\"\"\",up,0,1\n\"a, \"\"b\"\"\",up,0.5,2.5\n\"a, \"\"b\"\"\",mark,0.25,rate\n";
        assert_eq!(csv([&plot]), expected);
    }
}

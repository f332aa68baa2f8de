//! A page in one file: headings, text, tables, plots. No script, nothing loaded from elsewhere.

use std::fmt::Write as _;

use super::{Plot, escaped};

const STYLE: &str = "\
:root{color-scheme:light dark;--ground:#fff;--text:#24292f;--soft:#57606a;--line:#d9dee3;--good:#1a7f37;--bad:#cf222e;--link:#0860ca}\
@media (prefers-color-scheme: dark){:root{--ground:#14181d;--text:#d8dee4;--soft:#9aa4ae;--line:#333b44;--good:#4ac26b;--bad:#ff7b72;--link:#6cb6ff}}\
body{background:var(--ground);color:var(--text);font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}p{max-width:46rem}a{color:var(--link)}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem}\
th,td{padding:.25rem .75rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}th{color:var(--soft);font-weight:600}\
td.number{text-align:right;white-space:nowrap}td.good{color:var(--good)}td.bad{color:var(--bad);font-weight:600}\
pre{background:color-mix(in srgb,var(--text) 7%,transparent);padding:.75rem;overflow-x:auto}svg.plot{display:block;margin:1.25rem 0}";

/// A longer text is a sentence that begins with a number.
const NUMBER: usize = 16;

/// What a field of a table shows. `pass` and `FAIL` have their colours; numbers stand to the right.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    text: String,
    link: Option<String>,
}

impl Cell {
    /// A field that leads to another file.
    pub fn link(text: impl Into<String>, href: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            link: Some(href.into()),
        }
    }

    fn html(&self) -> String {
        let class = if self.text.starts_with("pass") {
            " class=\"good\""
        } else if self.text.starts_with("FAIL") {
            " class=\"bad\""
        } else if self.text.chars().count() <= NUMBER
            && self
                .text
                .starts_with(|c: char| c.is_ascii_digit() || "-–+<≤≥".contains(c))
        {
            " class=\"number\""
        } else {
            ""
        };
        let text = escaped(&self.text).replace('\n', "<br>");
        match &self.link {
            Some(href) => format!("<td{class}><a href=\"{}\">{text}</a></td>", escaped(href)),
            None => format!("<td{class}>{text}</td>"),
        }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, link: None }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_string().into()
    }
}

/// A page under construction.
#[derive(Debug)]
pub struct Page {
    title: String,
    body: String,
}

impl Page {
    /// An empty page.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            body: String::new(),
        }
    }

    /// Begins a section.
    pub fn heading(mut self, text: &str) -> Self {
        let _ = writeln!(self.body, "<h2>{}</h2>", escaped(text));
        self
    }

    /// A paragraph.
    pub fn text(mut self, text: &str) -> Self {
        let _ = writeln!(self.body, "<p>{}</p>", escaped(text));
        self
    }

    /// Lines as they are: commands, logs, a file.
    pub fn code(mut self, text: &str) -> Self {
        let _ = writeln!(self.body, "<pre>{}</pre>", escaped(text));
        self
    }

    /// A table.
    pub fn table<C: Into<Cell>>(
        mut self,
        heads: &[&str],
        rows: impl IntoIterator<Item = impl IntoIterator<Item = C>>,
    ) -> Self {
        let heads: Vec<String> = heads
            .iter()
            .map(|head| format!("<th>{}</th>", escaped(head)))
            .collect();
        let heads = heads.concat();
        let _ = writeln!(self.body, "<div class=\"wide\"><table><tr>{heads}</tr>");
        for row in rows {
            let cells: String = row.into_iter().map(|cell| cell.into().html()).collect();
            let _ = writeln!(self.body, "<tr>{cells}</tr>");
        }
        self.body.push_str("</table></div>\n");
        self
    }

    /// A plot.
    pub fn plot(mut self, plot: &Plot) -> Self {
        self.body.push_str(&plot.svg());
        self
    }

    /// The file's content.
    pub fn finish(self) -> String {
        let title = escaped(&self.title);
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
             <title>{title}</title><style>{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n{}</body>\n</html>\n",
            self.body
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_all_it_was_given_and_loads_nothing() {
        let page = Page::new("Run <7>")
            .heading("Gates")
            .text("a & b")
            .table(
                &["gate", "result"],
                [["delivery", "pass"], ["memory", "FAIL: grows"]],
            )
            .table(&["file"], [[Cell::link("csv", "a.csv")]])
            .code("sim run x.toml")
            .plot(&Plot::default())
            .finish();
        for wanted in [
            "<h1>Run &lt;7&gt;</h1>",
            "<h2>Gates</h2>",
            "<p>a &amp; b</p>",
            "<td class=\"good\">pass</td>",
            "<td class=\"bad\">FAIL: grows</td>",
            "<a href=\"a.csv\">csv</a>",
            "<pre>sim run x.toml</pre>",
            "<svg class=\"plot\"",
        ] {
            assert!(page.contains(wanted), "{wanted} is not in {page}");
        }
        let loaded = page.replace("http://www.w3.org/2000/svg", "");
        assert!(
            !loaded.contains("http") && !loaded.contains("<script"),
            "a page stands alone"
        );
    }
}

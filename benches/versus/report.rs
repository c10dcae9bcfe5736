//! What is shown: progress while it runs, then one table, the same as JSON, and a bar chart.
//!
//! Owns: rows and their verdicts.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, IsTerminal, Write as _};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::measure::TOLERANCE;

/// Which figure a target is for, and which way.
#[derive(Clone, Copy, PartialEq)]
pub enum Target {
    /// The ratio is to be at least this.
    AtLeast(f64),
    /// The ratio is to be at most this.
    AtMost(f64),
    /// wsify's own figure is to be at most this.
    FigureAtMost(f64),
    /// Or at least this.
    FigureAtLeast(f64),
}

impl Target {
    fn is_met_by(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(least) | Self::FigureAtLeast(least) => figure >= least,
            Self::AtMost(most) | Self::FigureAtMost(most) => figure <= most,
        }
    }
}

/// One line of the table.
pub struct Row {
    pub metric: &'static str,
    pub name: String,
    /// Of the figures of floor and wsify.
    pub unit: &'static str,
    pub floor: Option<f64>,
    pub wsify: f64,
    pub ratio: Option<f64>,
    pub target: Target,
    /// The floor against itself.
    pub control: Option<f64>,
    /// What the target is for, if pauses of the machine were all there is.
    pub pauses: Option<f64>,
    /// The client's share of its core.
    pub client_busy: Option<f64>,
    pub note: String,
    /// Why there is no figure.
    pub failed: Option<String>,
    pub samples: Value,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Verdict {
    Pass,
    FallShort,
    Inconclusive,
    Failed,
}

/// Above this share of its core the client may have been what was measured.
const SATURATED: f64 = 0.97;

/// Whether a control says that something else was running.
fn is_off(control: f64) -> bool {
    (control - 1.0).abs() > TOLERANCE
}

impl Row {
    pub fn failed(metric: &'static str, name: &str, target: Target, why: &io::Error) -> Self {
        Self {
            metric,
            name: name.to_owned(),
            unit: "",
            floor: None,
            wsify: f64::NAN,
            ratio: None,
            target,
            control: None,
            pauses: None,
            client_busy: None,
            note: String::new(),
            failed: Some(why.to_string()),
            samples: Value::Null,
        }
    }

    pub fn verdict(&self) -> Verdict {
        let figure = match self.target {
            Target::AtLeast(_) | Target::AtMost(_) => self.ratio.unwrap_or(f64::NAN),
            Target::FigureAtMost(_) | Target::FigureAtLeast(_) => self.wsify,
        };
        if self.failed.is_some() {
            Verdict::Failed
        } else if self.control.is_some_and(is_off) {
            Verdict::Inconclusive
        } else if self.target.is_met_by(figure) {
            Verdict::Pass
        } else if self.is_missed_by_pauses() {
            Verdict::Inconclusive
        } else {
            Verdict::FallShort
        }
    }

    fn is_missed_by_pauses(&self) -> bool {
        self.pauses
            .is_some_and(|figure| !self.target.is_met_by(figure))
    }

    fn cells(&self) -> [String; 6] {
        let unit = |value: f64| format!("{} {}", figure(value), self.unit);
        let limit = match self.target {
            Target::AtLeast(least) => format!(">= {least:.2}"),
            Target::AtMost(most) => format!("<= {most:.2}"),
            Target::FigureAtMost(most) => format!("<= {}", unit(most)),
            Target::FigureAtLeast(least) => format!(">= {}", unit(least)),
        };
        [
            format!("{} {}", self.metric, self.name),
            self.floor.map_or("-".to_owned(), unit),
            if self.wsify.is_nan() {
                "-".to_owned()
            } else {
                unit(self.wsify)
            },
            self.ratio.map_or("-".to_owned(), |it| format!("{it:.3}")),
            limit,
            self.verdict().word().to_owned(),
        ]
    }

    /// What a reader of the table should also know.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some(why) = &self.failed {
            remarks.push(why.clone());
        }
        if let Some(control) = self.control.filter(|&it| is_off(it)) {
            remarks.push(format!("floor against floor came to {control:.3}"));
        }
        if let Some(figure) = self.pauses {
            remarks.push(format!(
                "pauses of the machine alone would make it {figure:.3}"
            ));
        }
        if let Some(busy) = self.client_busy.filter(|&busy| busy > SATURATED) {
            remarks.push(format!("the client's core was {:.0} % busy", busy * 100.0));
        }
        if !self.note.is_empty() {
            remarks.push(self.note.clone());
        }
        remarks
    }

    fn to_json(&self) -> Value {
        let (target, of) = match self.target {
            Target::AtLeast(value) => (json!({ "at_least": value }), "ratio"),
            Target::AtMost(value) => (json!({ "at_most": value }), "ratio"),
            Target::FigureAtMost(value) => (json!({ "at_most": value }), "wsify"),
            Target::FigureAtLeast(value) => (json!({ "at_least": value }), "wsify"),
        };
        json!({
            "metric": self.metric,
            "name": self.name,
            "unit": self.unit,
            "floor": self.floor,
            "wsify": (!self.wsify.is_nan()).then_some(self.wsify),
            "ratio": self.ratio,
            "target": target,
            "target_is_for": of,
            "control": self.control,
            "pauses": self.pauses,
            "client_busy": self.client_busy,
            "verdict": self.verdict().word(),
            "remarks": self.remarks(),
            "samples": self.samples,
        })
    }
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::FallShort => "fall short",
            Self::Inconclusive => "inconclusive",
            Self::Failed => "failed",
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Self::Pass => "#2e7d32",
            Self::FallShort => "#c62828",
            Self::Inconclusive | Self::Failed => "#9e9e9e",
        }
    }
}

/// One line on stderr, rewritten where that is a terminal.
pub struct Progress {
    row: String,
    live: bool,
}

impl Progress {
    pub fn new() -> Self {
        Self {
            row: String::new(),
            live: io::stderr().is_terminal(),
        }
    }

    pub fn row(&mut self, row: String) {
        self.row = row;
        self.step("starting");
    }

    pub fn step(&self, step: &str) {
        if self.live {
            eprint!("\r\x1b[K{}: {step}", self.row);
            let _ = io::stderr().flush();
        }
    }

    /// The row is done.
    pub fn done(&self, row: &Row) {
        let cells = row.cells();
        let start = if self.live { "\r\x1b[K" } else { "" };
        eprintln!(
            "{start}{}: {} {} ({})",
            cells[0], cells[3], cells[5], cells[2]
        );
        for remark in row.remarks() {
            eprintln!("    {remark}");
        }
    }
}

/// The machine and the state of the source, without which a figure means little.
pub fn machine() -> Value {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    json!({
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "cpu": model,
        "cores": std::thread::available_parallelism().map_or(0, |it| it.get()),
        "load_average": read("/proc/loadavg").trim(),
        "commit": git(&["rev-parse", "HEAD"]),
        "changed_since": git(&["status", "--porcelain", "--untracked-files=no"])
            .map(|changes| !changes.is_empty()),
    })
}

/// Prints the table and writes `bench.json` and `bench.svg`.
pub fn write(dir: &Path, machine: &Value, rows: &[Row], seconds: u64) -> io::Result<()> {
    let json = json!({
        "machine": machine,
        "seconds": seconds,
        "rows": rows.iter().map(Row::to_json).collect::<Vec<_>>(),
    });
    fs::write(
        dir.join("bench.json"),
        format!("{}\n", serde_json::to_string_pretty(&json)?),
    )?;
    fs::write(dir.join("bench.svg"), svg(rows))?;
    println!("{}", table(rows));
    let count = |verdict| rows.iter().filter(|row| row.verdict() == verdict).count();
    println!(
        "{} pass, {} fall short, {} inconclusive, {} failed, in {seconds} s. CPU-us are the server's, per unit of work.",
        count(Verdict::Pass),
        count(Verdict::FallShort),
        count(Verdict::Inconclusive),
        count(Verdict::Failed),
    );
    println!("Written: {0}/bench.json and {0}/bench.svg", dir.display());
    Ok(())
}

/// The table, as Markdown that is aligned for the eye.
fn table(rows: &[Row]) -> String {
    let head = ["metric", "floor", "wsify", "ratio", "target", "verdict"].map(str::to_owned);
    let mut lines = vec![head];
    lines.extend(rows.iter().map(Row::cells));
    let mut widths = [0; 6];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::from("\n");
    for (at, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(widths) {
            let _ = write!(out, "| {cell:width$} ");
        }
        out.push_str("|\n");
        if at == 0 {
            for width in widths {
                let _ = write!(out, "|-{}-", "-".repeat(width));
            }
            out.push_str("|\n");
        }
    }
    for row in rows {
        for remark in row.remarks() {
            let _ = write!(out, "\n{} {}: {remark}", row.metric, row.name);
        }
    }
    out
}

/// Bars of two kinds: shares of the floor's speed (longer is better), and shares of a limit used (shorter is better).
fn svg(rows: &[Row]) -> String {
    const LEFT: f64 = 380.0;
    const UNIT: f64 = 320.0;
    const LINE: f64 = 24.0;
    let mut body = String::new();
    let mut y = 10.0;
    for limits in [false, true] {
        let title = if limits {
            "Share of a limit used: the bar must end before the line"
        } else {
            "Ratio to the reference (1 = only the unavoidable system calls): the bar must reach the line"
        };
        y += LINE;
        let _ = writeln!(body, r#"<text x="10" y="{y}" class="title">{title}</text>"#);
        for row in rows {
            let (value, line) = match row.target {
                Target::AtLeast(least) => (row.ratio.unwrap_or(0.0), least),
                Target::AtMost(most) => (row.ratio.unwrap_or(0.0) / most, 1.0),
                Target::FigureAtMost(most) => (row.wsify / most, 1.0),
                Target::FigureAtLeast(least) => (least / row.wsify, 1.0),
            };
            if limits == matches!(row.target, Target::AtLeast(_)) {
                continue;
            }
            y += LINE;
            let cells = row.cells();
            let value = if value.is_finite() { value } else { 0.0 };
            let width = value.clamp(0.0, 1.5) * UNIT;
            let mark = LEFT + line * UNIT;
            let label = match row.target {
                Target::FigureAtMost(_) | Target::FigureAtLeast(_) => &cells[2],
                _ => &cells[3],
            };
            let _ = writeln!(
                body,
                "<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{}</text>\
                 <rect x=\"{LEFT}\" y=\"{}\" width=\"{width:.1}\" height=\"16\" fill=\"{}\"/>\
                 <line x1=\"{mark:.1}\" x2=\"{mark:.1}\" y1=\"{}\" y2=\"{}\"/>\
                 <text x=\"{}\" y=\"{y}\">{label} ({}) {}</text>",
                LEFT - 8.0,
                escape(&cells[0]),
                y - 13.0,
                row.verdict().colour(),
                y - 16.0,
                y + 6.0,
                LEFT + 1.5 * UNIT + 12.0,
                escape(&cells[4]),
                cells[5],
            );
        }
        y += LINE / 2.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1130\" height=\"{h}\" viewBox=\"0 0 1130 {h}\">\n\
         <style>text{{font:13px sans-serif;fill:#222}}.title{{font-weight:bold}}line{{stroke:#222;stroke-width:2}}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n",
        h = y + 16.0,
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Three digits that count.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

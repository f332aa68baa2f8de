//! `peers-report DIR`: reads what run.sh measured (`raw.jsonl`), writes `results.json`, `table.md` and `plot.svg`.

mod cells;
mod plot;
mod ratios;
mod table;

use std::{error::Error, fs, path::PathBuf};

use cells::Cell;
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = PathBuf::from(std::env::args().nth(1).ok_or("usage: peers-report DIR")?);
    let raw = fs::read_to_string(dir.join("raw.jsonl"))?;
    let runs = raw
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<Vec<Value>, _>>()?;
    let cells = Cell::gather(&runs);
    let ratios = ratios::all(&cells);
    let results = json!({
        "cells": cells.iter().map(Cell::json).collect::<Vec<_>>(),
        "ratios": ratios.iter().map(ratios::Ratio::json).collect::<Vec<_>>(),
    });
    fs::write(dir.join("results.json"), format!("{results:#}\n"))?;
    let table = table::all(&cells, &ratios);
    fs::write(dir.join("table.md"), &table)?;
    fs::write(dir.join("plot.svg"), plot::svg(&cells))?;
    print!("{table}");
    Ok(())
}

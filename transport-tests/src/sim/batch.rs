//! Many scenarios side by side, each over some seeds; what comes out is in the order of the files.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use super::{Options, Report, Scenario, run, run_recorded, trace::Trace};

/// One scenario with what it gave.
pub struct Finished {
    /// Where it is from.
    pub file: PathBuf,
    /// The scenario.
    pub scenario: Scenario,
    /// The median over all seeds, judged by the scenario's expectations; faults of any seed are its faults.
    pub report: Report,
    /// Every seed's own report.
    pub runs: Vec<Report>,
    /// What the first seed did over time, if asked for.
    pub trace: Option<Trace>,
}

/// How to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The first seed, and the packet suite.
    pub options: Options,
    /// How many seeds from it on.
    pub seeds: u64,
    /// Keep traces.
    pub record: bool,
    /// Threads.
    pub threads: usize,
}

/// The scenario files below a folder, in order of their names; folders within come after its own files.
///
/// # Errors
/// A folder that cannot be read.
pub fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            folders.push(path);
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            found.push(path);
        }
    }
    found.sort();
    folders.sort();
    for folder in folders {
        found.extend(files(&folder)?);
    }
    Ok(found)
}

/// Runs everything and tells of each as soon as all before it are told.
pub fn run_all(scenarios: Vec<(PathBuf, Scenario)>, plan: Plan, mut tell: impl FnMut(Finished)) {
    let next = AtomicUsize::new(0);
    let count = scenarios.len();
    let queue: Vec<Mutex<Option<(PathBuf, Scenario)>>> =
        scenarios.into_iter().map(|one| Mutex::new(Some(one))).collect();
    let (done, finished) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..plan.threads.clamp(1, count.max(1)) {
            let done = done.clone();
            let (next, queue) = (&next, &queue);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(slot) = queue.get(at) else { return };
                    let taken = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
                    if let Some((file, scenario)) = taken {
                        let _ = done.send((at, one(file, scenario, plan)));
                    }
                }
            });
        }
        drop(done);
        let mut waiting: Vec<Option<Finished>> = (0..count).map(|_| None).collect();
        let mut told = 0;
        for (at, result) in finished {
            if let Some(slot) = waiting.get_mut(at) {
                *slot = Some(result);
            }
            while let Some(ready) = waiting.get_mut(told).and_then(Option::take) {
                tell(ready);
                told += 1;
            }
        }
    });
}

fn one(file: PathBuf, scenario: Scenario, plan: Plan) -> Finished {
    let seeds = plan.options.seed..plan.options.seed + plan.seeds.max(1);
    let mut trace = None;
    let mut runs = Vec::new();
    for seed in seeds {
        let options = Options { seed, ..plan.options };
        if plan.record && trace.is_none() {
            let (report, kept) = run_recorded(&scenario, options);
            trace = Some(kept);
            runs.push(report);
        } else {
            runs.push(run(&scenario, options));
        }
    }
    Finished {
        report: median(&scenario, &runs),
        file,
        scenario,
        runs,
        trace,
    }
}

/// The median of every number of the reports, judged anew. One report is its own median.
fn median(scenario: &Scenario, runs: &[Report]) -> Report {
    let [only] = runs else {
        let values: Vec<serde_json::Value> = runs
            .iter()
            .map(|run| serde_json::to_value(run).unwrap_or_default())
            .collect();
        let mut report = runs[0].clone();
        report.completed = runs.iter().all(|run| run.completed);
        // What a seed's own expectations said does not count; other faults do.
        let faults = runs.iter().flat_map(|run| {
            let own = run.faults.iter().filter(|fault| !fault.starts_with("expect: "));
            own.map(|fault| format!("seed {}: {fault}", run.seed))
        });
        report.faults = faults.collect();
        let merged = merge(&values);
        report.judge_against(&merged, &scenario.expect);
        report.medians = Some(merged);
        return report;
    };
    only.clone()
}

fn merge(values: &[serde_json::Value]) -> serde_json::Value {
    use serde_json::Value;
    match &values[0] {
        Value::Object(first) => {
            let field = |key: &String| {
                let all: Vec<Value> = values
                    .iter()
                    .filter_map(|value| value.get(key).cloned())
                    .collect();
                (key.clone(), merge(&all))
            };
            Value::Object(first.keys().map(field).collect())
        }
        Value::Array(first) => {
            let item = |index: usize| {
                let all: Vec<Value> = values
                    .iter()
                    .filter_map(|value| value.get(index).cloned())
                    .collect();
                merge(&all)
            };
            Value::Array((0..first.len()).map(item).collect())
        }
        Value::Number(_) => {
            let mut numbers: Vec<f64> = values.iter().filter_map(Value::as_f64).collect();
            numbers.sort_by(f64::total_cmp);
            let middle = numbers.len() / 2;
            let median = if numbers.len().is_multiple_of(2) {
                f64::midpoint(numbers[middle - 1], numbers[middle])
            } else {
                numbers[middle]
            };
            serde_json::json!(median)
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(extra: &str) -> Scenario {
        let text = format!(
            "name = \"x\"\nseconds = 20\n[link.down]\nrate_mbit = 5.0\ndelay_ms = 5.0\nloss = {{ kind = \"iid\", p = 0.02 }}\n\
             [[flow]]\nkind = \"bulk\"\nfrom = \"server\"\nbytes = 100000\n{extra}"
        );
        Scenario::parse(&text).unwrap()
    }

    fn plan(seeds: u64) -> Plan {
        Plan {
            options: Options {
                seed: 1,
                cipher: None,
            },
            seeds,
            record: false,
            threads: 2,
        }
    }

    #[test]
    fn results_come_in_the_order_of_the_files_whatever_ends_first() {
        let named = |index: u32| (PathBuf::from(format!("{index}.toml")), scenario(""));
        let mut told = Vec::new();
        run_all((0..5).map(named).collect(), plan(1), |one| told.push(one.file));
        assert_eq!(told, (0..5).map(|index| named(index).0).collect::<Vec<_>>());
    }

    #[test]
    fn expectations_judge_the_median() {
        let run_with = |extra: &str| {
            let mut report = None;
            run_all(vec![(PathBuf::new(), scenario(extra))], plan(3), |one| {
                report = Some(one);
            });
            report.unwrap()
        };
        let free = run_with("");
        assert!(free.report.passed());
        let mut rates: Vec<f64> = free.runs.iter().map(|run| run.flows[0].goodput_mbit).collect();
        rates.sort_by(f64::total_cmp);
        assert!(rates[0] < rates[2], "three seeds are three worlds");
        let bound = |min: f64| format!("[expect]\n\"flows.0.goodput_mbit\" = {{ min = {min} }}\n");
        assert!(run_with(&bound(rates[1] - 1e-6)).report.passed());
        assert!(!run_with(&bound(rates[1] + 1e-6)).report.passed());
    }
}

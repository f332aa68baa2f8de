//! Random programs on random links: a few seeds here, a thousand by `swarm --seeds 1000`. What ever failed is a file in
//! `regressions/` and a test here.

use std::path::Path;

use transport_tests::program::swarm::Program;

#[test]
fn nothing_is_lost_and_nothing_hangs() {
    for seed in 1..=40 {
        let result = Program::new(seed).run();
        assert_eq!(
            result,
            Ok(()),
            "cargo run --release -p transport-tests --bin swarm -- --seed {seed}"
        );
    }
}

#[test]
fn a_seed_is_a_program() {
    let program = Program::new(7);
    assert_eq!(program, Program::new(7));
    assert_ne!(program, Program::new(8));
    let text = serde_json::to_string(&program).expect("a program");
    assert_eq!(
        serde_json::from_str::<Program>(&text).expect("the same program"),
        program
    );
}

/// Programs that failed once, by what they found.
macro_rules! regressions {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { run_kept(stringify!($name)); })*

        #[test]
        fn every_kept_program_has_its_test() {
            let named: &[&str] = &[$(stringify!($name)),*];
            for entry in std::fs::read_dir(folder()).into_iter().flatten() {
                let path = entry.expect("an entry").path();
                let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
                assert!(named.contains(&stem.as_str()), "{stem}.json has no test here");
            }
        }
    };
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions")
}

#[allow(dead_code, reason = "no program has failed so far")]
fn run_kept(name: &str) {
    let text = std::fs::read_to_string(folder().join(format!("{name}.json"))).expect("a kept program");
    let program: Program = serde_json::from_str(&text).expect("a program");
    assert_eq!(program.run(), Ok(()));
}

regressions! {}

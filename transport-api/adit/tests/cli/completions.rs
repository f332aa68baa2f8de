//! `adit completions`: scripts that shells can read, and that know every command.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::common::{adit, fails, folder, run};

const SHELLS: [&str; 5] = ["bash", "elvish", "fish", "powershell", "zsh"];

/// The commands `adit --help` lists.
fn commands(folder: &std::path::Path) -> Vec<String> {
    let help = run(folder, &["--help"]);
    let help = String::from_utf8(help.stdout).expect("text");
    let list = help.split("Commands:").nth(1).expect("a list of commands");
    let list = list.split("Options:").next().expect("its end");
    let lines = list
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = lines.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn each_shell_gets_a_script_that_knows_every_command() {
    let folder = folder("completions");
    let commands = commands(&folder);
    assert!(
        commands.len() >= 8 && commands.contains(&"connect".to_owned()),
        "{commands:?}"
    );
    for shell in SHELLS {
        let output = run(&folder, &["completions", shell]);
        assert!(output.status.success() && output.stderr.is_empty(), "{shell}");
        let script = String::from_utf8(output.stdout).expect("text");
        for command in &commands {
            assert!(
                script.contains(command.as_str()),
                "{shell} does not know {command}"
            );
        }
        assert!(
            script.contains("socks") && script.contains("key-log"),
            "{shell} does not know options"
        );
    }
    let said = fails(&folder, 2, &["completions", "tcsh"]);
    assert!(said.contains("powershell"), "{said}");
}

/// A shell that is not here is passed over; bash is on every machine that builds this.
#[test]
fn shells_can_read_their_scripts() {
    let folder = folder("completions-parse");
    for (shell, required) in [("bash", true), ("zsh", false), ("fish", false)] {
        let script = run(&folder, &["completions", shell]).stdout;
        let parser = Command::new(shell)
            .arg("-n")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut parser = match parser {
            Ok(parser) => parser,
            Err(error) if required => panic!("{shell}: {error}"),
            Err(_) => continue,
        };
        parser
            .stdin
            .take()
            .expect("piped")
            .write_all(&script)
            .expect("the shell reads");
        let output = parser.wait_with_output().expect("the shell ends");
        assert!(
            output.status.success(),
            "{shell}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = folder("completions-pipe");
    let mut child = adit(&folder)
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let mut said = String::new();
    child
        .stderr
        .take()
        .expect("piped")
        .read_to_string(&mut said)
        .expect("text");
    assert!(child.wait().expect("it ends").success(), "{said}");
    assert_eq!(said, "");
}

// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Compiles the C side: `ring.c` once per ABI, `toeplitz.c`, and `layout.c` into tables of what the C
//! compiler says of the structures.
//!
//! `layout.c` becomes assembly, not an object: so it needs no C library for i386, and nothing of it
//! has to run.

use std::path::Path;
use std::{env, fs};

/// Name, options that select the ABI, and whether the code can run here.
const ABIS: [(&str, &[&str], bool); 3] = [
    ("x86_64", &["-m64"], true),
    // As the back ends of other hands do it: 64-bit code, structures packed to 4 bytes.
    ("x86_32", &["-m64", "-DPACKED"], true),
    // The real thing, which says whether the packing above is right.
    ("i386", &["-m32"], false),
];

fn main() {
    let out = env::var("OUT_DIR").unwrap();
    let mut tables = String::new();
    for (name, options, runs) in ABIS {
        tables.push_str(&layout(name, options, &out));
        if runs {
            let mut ring = cc::Build::new();
            ring.file("c/ring.c")
                .define("ABI", name)
                .warnings(true)
                .flag("-Werror");
            for option in options {
                ring.flag(option);
            }
            ring.compile(&format!("ring_{name}"));
        }
    }
    cc::Build::new()
        .file("c/toeplitz.c")
        .warnings(true)
        .flag("-Werror")
        .compile("toeplitz");
    fs::write(Path::new(&out).join("layout.rs"), tables).unwrap();
    println!("cargo::rerun-if-changed=c");
    println!("cargo::rerun-if-changed=../../../blktap/blktap.h");
}

/// A Rust table `(name, byte offset or value, size in bytes)` of what `layout.c` marks by `->`.
fn layout(name: &str, options: &[&str], out: &str) -> String {
    let assembly = Path::new(out).join(format!("{name}.s"));
    let compiler = cc::Build::new().opt_level(1).get_compiler();
    let status = compiler
        .to_command()
        .args(["-S", "-ffreestanding", "-fno-pic", "-Werror"])
        .args(options)
        .arg("-o")
        .arg(&assembly)
        .arg("c/layout.c")
        .status()
        .expect("the C compiler runs");
    assert!(
        status.success(),
        "layout.c does not compile for {name}; is libxen-dev installed?"
    );

    let mut table = format!(
        "/// What the C compiler says for {name}.\npub const {}: &[Entry] = &[\n",
        name.to_uppercase()
    );
    for line in fs::read_to_string(assembly).unwrap().lines() {
        if let Some(rest) = line.strip_prefix("->") {
            let fields: Vec<_> = rest.split_whitespace().collect();
            let [name, value, size] = fields[..] else {
                panic!("odd line: {line}")
            };
            table.push_str(&format!(
                "    Entry {{ name: {name:?}, value: {value}, size: {size} }},\n"
            ));
        }
    }
    table + "];\n"
}

// SPDX-License-Identifier: GPL-2.0
//! JSON, as far as it is needed: objects and lists are put together as text.

use std::fmt::{Display, Write};

/// A text as JSON.
pub(crate) fn string(text: &str) -> String {
    let mut json = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => {
                json.push('\\');
                json.push(char);
            }
            '\u{0}'..='\u{1f}' => {
                let _ = write!(json, "\\u{:04x}", u32::from(char));
            }
            _ => json.push(char),
        }
    }
    json.push('"');
    json
}

/// A list of what is JSON already, or a number.
pub(crate) fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    format!("[{}]", items.join(","))
}

/// An object.
#[derive(Default)]
pub(crate) struct Object(Vec<String>);

impl Object {
    /// And what is JSON already, or a number.
    pub(crate) fn with(mut self, name: &str, value: impl Display) -> Self {
        self.0.push(format!("{}:{value}", string(name)));
        self
    }

    /// And a text, or nothing.
    pub(crate) fn text(self, name: &str, value: Option<&str>) -> Self {
        let value = value.map_or_else(|| "null".into(), string);
        self.with(name, value)
    }
}

impl Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{{{}}}", self.0.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_json() {
        let object = Object::default()
            .with("n", 5)
            .text("t", Some("a\"\\\n"))
            .text("none", None)
            .with("l", list([1, 2]));
        assert_eq!(
            object.to_string(),
            r#"{"n":5,"t":"a\"\\\u000a","none":null,"l":[1,2]}"#
        );
    }
}

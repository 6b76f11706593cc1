//! Formats that hold one resource a line.

use std::io;

use serde_json::Value;

fn resources(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(many) => many.iter().collect(),
        one => vec![one],
    }
}

/// A JSON object a line.
pub(super) fn ndjson(value: &Value) -> String {
    resources(value).iter().map(|resource| format!("{resource}\n")).collect()
}

/// A header of all field names, in the order they first appear, then a line a resource. Nested values are JSON.
pub(super) fn csv(value: &Value) -> io::Result<String> {
    let resources = resources(value);
    let mut fields: Vec<&str> = Vec::new();
    for resource in &resources {
        for field in resource.as_object().into_iter().flat_map(|object| object.keys()) {
            if !fields.contains(&field.as_str()) {
                fields.push(field);
            }
        }
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    if !fields.is_empty() {
        writer.write_record(&fields)?;
    }
    for resource in resources {
        writer.write_record(fields.iter().map(|field| match resource.get(field) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }))?;
    }
    let bytes = writer.into_inner().map_err(|error| io::Error::other(error.to_string()))?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_line_a_resource() {
        let value = json!([{"slug": "a,b", "n": 1, "x": null}, {"slug": "c\"d", "tags": ["y"]}]);
        assert_eq!(csv(&value).unwrap(), "slug,n,x,tags\n\"a,b\",1,,\n\"c\"\"d\",,,\"[\"\"y\"\"]\"\n");
        assert_eq!(ndjson(&value).lines().count(), 2);
        assert_eq!(ndjson(&json!({"a": 1})), "{\"a\":1}\n");
    }
}

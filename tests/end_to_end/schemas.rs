//! Documents and their schemas, as the program has them.

use crate::world::World;
use serde_json::Value;

/// Holds a document to the schema of its format.
pub(crate) fn check(world: &World, document: &Value) {
    if let Some(wrong) = wrong(world, document) {
        panic!("{}: {wrong}", document["format"]);
    }
}

/// In what a document is not as its schema says, or holds what that does not describe.
pub(crate) fn wrong(world: &World, document: &Value) -> Option<String> {
    let name = document["format"].as_str().unwrap();
    let names = world.run(&["schema"]).expect(0).stdout;
    assert!(names.lines().any(|it| name.ends_with(it)), "{name} is not among {names}");
    let schema = world.run(&["schema", name]).expect(0).json();
    let mut compiler = boon::Compiler::new();
    compiler.add_resource(name, strict(schema)).unwrap();
    let mut schemas = boon::Schemas::new();
    let compiled = compiler.compile(name, &mut schemas).unwrap();
    schemas.validate(document, compiled).err().map(|error| format!("{error:#}"))
}

/// With nothing allowed that is not described.
fn strict(mut schema: Value) -> Value {
    if let Some(object) = schema.as_object_mut() {
        let is_open =
            object.contains_key("additionalProperties") || object.contains_key("patternProperties");
        if object.contains_key("properties") && !is_open {
            object.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
        for value in object.values_mut() {
            *value = strict(value.take());
        }
    } else if let Some(items) = schema.as_array_mut() {
        for value in items {
            *value = strict(value.take());
        }
    }
    schema
}

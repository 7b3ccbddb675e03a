//! The OpenAPI document, made of the table of routes.

use serde_json::{Map, Value, json};

use super::routes::{ROUTES, Route};

/// The document.
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "hitscope",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Times are RFC 3339; numbers since the epoch in s, ms, µs or ns, told by their size; `now`; or \
                as long before now as `-10m` says. Durations are numbers with ms, s, m, h or d. Ranges take in their \
                first moment and not their last. Loopback needs no token; elsewhere `Authorization: Bearer` or the \
                cookie of /login is asked for.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": { "Failure": {
                "type": "object",
                "required": ["error", "hint"],
                "properties": {
                    "error": { "type": "string", "description": "What is wrong." },
                    "hint": { "type": ["string", "null"], "description": "What to do about it." },
                },
            } },
        },
        "security": [{ "token": [] }, {}],
    })
}

fn operation(route: &Route) -> Value {
    let parameters: Vec<Value> = route
        .parameters
        .iter()
        .map(|parameter| {
            json!({
                "name": parameter.name,
                "in": "query",
                "required": parameter.required,
                "description": parameter.doc,
                "schema": { "type": "string" },
                "example": parameter.example,
            })
        })
        .collect();
    let content: Map<String, Value> = route.content.iter().map(|kind| ((*kind).into(), json!({}))).collect();
    let failure = json!({
        "description": "What is wrong, and what to do about it.",
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Failure" } } },
    });
    let mut operation = json!({
        "summary": route.doc,
        "parameters": parameters,
        "responses": { "200": { "description": route.answer, "content": content }, "default": failure },
    });
    if route.method == "post" {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": {
                "type": "object",
                "required": ["sql"],
                "properties": { "sql": { "type": "string", "example": "SELECT * FROM hits LIMIT 10" } },
            } } },
        });
    }
    operation
}

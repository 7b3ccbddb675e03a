//! Statements that are never kept as they were written.

/// What a statement with a password, or a key, has in it: to set one, to connect elsewhere, to encrypt by one, or to look one up.
const WORDS: [&[u8]; 11] = [
    b"password",
    b"passwd",
    b"identified by",
    b"identified with",
    b"user mapping",
    b"crypt(",
    b"pgp_sym_",
    b"pgp_pub_decrypt",
    b"aes_encrypt",
    b"aes_decrypt",
    b"dblink",
];

/// Whether a statement may have a password in it: rather one too many than one too few.
pub fn has_password(sql: &[u8]) -> bool {
    // Blanks and line ends of any number stand for one.
    let mut text = Vec::with_capacity(sql.len());
    for byte in sql.iter().map(u8::to_ascii_lowercase) {
        match byte.is_ascii_whitespace() {
            true if text.last() == Some(&b' ') => {}
            true => text.push(b' '),
            false => text.push(byte),
        }
    }
    WORDS.iter().any(|word| memchr::memmem::find(&text, word).is_some())
}

#[cfg(test)]
mod tests {
    use super::has_password;

    #[test]
    fn statements_with_passwords() {
        for sql in [
            "ALTER USER ann PASSWORD 'x'",
            "create role ann with login encrypted password 'x'",
            "CREATE USER 'ann'@'%' IDENTIFIED\n\t BY 'x'",
            "SET PASSWORD FOR ann = 'x'",
            "CREATE USER MAPPING FOR ann SERVER s OPTIONS (user 'a', password 'x')",
            "UPDATE users SET pass = crypt('x', gen_salt('bf'))",
            "SELECT pgp_sym_decrypt(data, 'x') FROM t",
            "SELECT * FROM dblink('host=h password=x', 'select 1') AS t(a int)",
            "SELECT 1 FROM users WHERE passwd = 'x'",
        ] {
            assert!(has_password(sql.as_bytes()), "{sql}");
        }
        for sql in ["SELECT 1", "SELECT * FROM orders WHERE id = 7", "UPDATE users SET name = 'ann'"] {
            assert!(!has_password(sql.as_bytes()), "{sql}");
        }
    }
}

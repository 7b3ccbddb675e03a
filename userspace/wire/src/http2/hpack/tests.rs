use super::*;

fn table() -> Table {
    Table::new(4096, Some(DEFAULT_TABLE_BYTES), 256)
}

fn text(fields: &Fields, name: Name) -> &str {
    match fields.get(name) {
        Field::Absent => "-",
        Field::Unresolved => "?",
        Field::Value { bytes, .. } => std::str::from_utf8(bytes).unwrap(),
    }
}

fn read(table: &mut Table, block: &[u8]) -> String {
    let mut fields = Fields::default();
    let valid = table.decode(block, &mut fields);
    let names = [Name::Method, Name::Path, Name::Authority, Name::Status, Name::ContentType, Name::GrpcStatus];
    let texts = names.map(|name| text(&fields, name)).join(" ");
    if valid.is_ok() { texts } else { format!("{texts} invalid") }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|char| char.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// RFC 7541, C.3: requests without Huffman codes, on one connection.
#[test]
fn requests_of_the_rfc() {
    let mut table = table();
    for (block, expected) in [
        ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", "GET / www.example.com - - -"),
        ("8286 84be 5808 6e6f 2d63 6163 6865", "GET / www.example.com - - -"),
        (
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
            "GET /index.html www.example.com - - -",
        ),
    ] {
        assert_eq!(read(&mut table, &hex(block)), expected);
    }
    assert_eq!(table.entries.len(), 3);
}

/// RFC 7541, C.4: the same with Huffman codes.
#[test]
fn coded_requests_of_the_rfc() {
    let mut table = table();
    for (block, expected) in [
        ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", "GET / www.example.com - - -"),
        ("8286 84be 5886 a8eb 1064 9cbf", "GET / www.example.com - - -"),
        ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", "GET /index.html www.example.com - - -"),
    ] {
        assert_eq!(read(&mut table, &hex(block)), expected);
    }
}

/// RFC 7541, C.6: answers with Huffman codes, and a table of 256 bytes from which the other end evicts.
#[test]
fn coded_answers_of_the_rfc() {
    let mut table = table();
    for (block, expected) in [
        (
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e \
             919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            "- - - 302 - -",
        ),
        ("4883 640e ffc1 c0bf", "- - - 307 - -"),
        (
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 \
             e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
            "- - - 200 - -",
        ),
    ] {
        assert_eq!(read(&mut table, &hex(block)), expected);
    }
}

#[test]
fn what_was_missed_is_unknown_until_it_is_entered_anew() {
    let mut table = table();
    // :path /a, content-type application/grpc, grpc-status 0, entered in this order: 64, 63, 62.
    let entries = b"\x44\x02/a\x5f\x10application/grpc\x40\x0bgrpc-status\x010";
    assert_eq!(read(&mut table, entries), "- /a - - application/grpc 0");
    assert_eq!(read(&mut table, b"\x83\xc0\xbf"), "POST /a - - application/grpc -");
    table.clear();
    assert_eq!(read(&mut table, b"\x83\xc0\xbf"), "POST ? ? ? ? ?");
    // Entered before them, so they moved by one, and are still unknown.
    assert_eq!(read(&mut table, b"\x83\x44\x02/b"), "POST /b - - - -");
    assert_eq!(read(&mut table, b"\x83\xbe"), "POST /b - - - -");
    assert_eq!(read(&mut table, b"\x83\xbf\xc0"), "POST ? ? ? ? ?");
    // A value whose name is unknown is entered, too, and keeps its place.
    assert_eq!(read(&mut table, b"\x83\x7f\x01\x01x"), "POST ? ? ? ? ?");
    assert_eq!(read(&mut table, b"\x83\xbf"), "POST /b - - - -");
    assert_eq!(read(&mut table, b"\x83\xbf\xbe"), "POST /b ? ? ? ?");
}

#[test]
fn a_table_of_no_size_holds_nothing() {
    let mut table = table();
    read(&mut table, b"\x44\x02/a");
    assert_eq!(read(&mut table, b"\x20\x83\xbe"), "POST ? ? ? ? ?");
    assert_eq!(read(&mut table, b"\x3f\xe1\x1f\x83\x44\x02/b"), "POST /b - - - -");
}

#[test]
fn bounded() {
    let mut table = Table::new(2048, None, 4000);
    for n in 0..1000_u32 {
        let path = "x".repeat(n as usize % 1500);
        let mut block = vec![0x44];
        block.extend(number(path.len(), 7, 0));
        block.extend(path.bytes());
        read(&mut table, &block);
        assert!(table.memory_bytes() <= 2048, "{}", table.memory_bytes());
        // The newest is there, if it is not longer than all may be.
        let expected = if path.len() <= 1024 { format!("- {path} - - - -") } else { "- ? ? ? ? ?".into() };
        assert_eq!(read(&mut table, b"\xbe"), expected);
    }
}

/// RFC 7541, 5.1.
fn number(value: usize, prefix: u32, flags: u8) -> Vec<u8> {
    let mask = (1 << prefix) - 1;
    if value < mask {
        return vec![flags | value as u8];
    }
    let (mut bytes, mut rest) = (vec![flags | mask as u8], value - mask);
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

#[test]
fn no_block() {
    for block in [
        &b"\x80"[..],
        b"\xff",
        b"\xff\xff\xff\xff\xff\xff\x0f",
        b"\x3f",
        b"\x44",
        b"\x44\x05/a",
        b"\x44\x7f\xff\xff\xff\xff\x01",
        b"\x40",
        // The code of a string's end.
        b"\x44\x84\xff\xff\xff\xff",
    ] {
        let mut fields = Fields::default();
        assert_eq!(table().decode(block, &mut fields), Err(Invalid), "{block:?}");
    }
}

/// The library's part, fed everything that it can go wrong with.
#[test]
fn huffman_codes() {
    let mut random = 1_u64;
    let mut byte = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 56) as u8
    };
    let mut decoded = Vec::new();
    for round in 0..20_000 {
        let text: Vec<u8> = (0..byte() % 40).map(|_| byte()).collect();
        let mut coded = Vec::new();
        httlib_huffman::encode(&text, &mut coded).unwrap();
        decoded.clear();
        assert!(httlib_huffman::decode(&coded, &mut decoded, DecoderSpeed::FiveBits).is_ok());
        assert_eq!(decoded, text, "round {round}");
        // Noise, of which 5 bits give a byte at most.
        let noise: Vec<u8> = (0..byte() % 40).map(|_| if round % 2 == 0 { byte() } else { byte() | 0xe0 }).collect();
        decoded.clear();
        let _ = httlib_huffman::decode(&noise, &mut decoded, DecoderSpeed::FiveBits);
        assert!(decoded.len() <= noise.len() * 8 / 5);
    }
}

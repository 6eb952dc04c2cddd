//! The CPU time of WebSocket-over-HTTP: decoding, encoding and a whole echo, compared with a copy of the same bytes
//! and, if it supports the case, with the crate grip-control 0.8. Run it with `cargo bench --bench events`.

#[cfg(not(target_os = "wasi"))]
mod native {
    use std::hint::black_box;

    use divan::{Bencher, counter::BytesCount};
    use fanout_edge::grip::{Event, Events, WebSocket};

    #[global_allocator]
    static ALLOCATIONS: divan::AllocProfiler = divan::AllocProfiler::system();

    /// Events in a body, and bytes in each.
    const SIZES: &[(usize, usize)] = &[(1, 5), (100, 5), (10_000, 5), (1, 1024), (100, 1024), (10_000, 1024)];

    fn body((events, bytes): (usize, usize)) -> Vec<u8> {
        let content = vec![b'x'; bytes];
        let mut body = Vec::new();
        for _ in 0..events {
            Event::Text(&content).encode(&mut body);
        }
        body
    }

    #[divan::bench(args = SIZES)]
    fn copy(bencher: Bencher<'_, '_>, size: (usize, usize)) {
        let body = body(size);
        bencher.counter(BytesCount::of_slice(&body)).bench_local(|| black_box(&body).clone());
    }

    #[divan::bench(args = SIZES)]
    fn decode(bencher: Bencher<'_, '_>, size: (usize, usize)) {
        let body = body(size);
        bencher.counter(BytesCount::of_slice(&body)).bench_local(|| {
            Events::decode(black_box(&body)).expect("a valid body").for_each(|event| {
                black_box(event);
            })
        });
    }

    #[divan::bench(args = SIZES)]
    fn encode(bencher: Bencher<'_, '_>, size: (usize, usize)) {
        let expected = body(size);
        let content = vec![b'x'; size.1];
        bencher.counter(BytesCount::of_slice(&expected)).bench_local(|| {
            let mut body = Vec::with_capacity(expected.len());
            for _ in 0..size.0 {
                Event::Text(black_box(&content)).encode(&mut body);
            }
            body
        });
    }

    /// The body of a response has at most a million bytes, so the largest request cannot be echoed.
    #[divan::bench(args = &SIZES[..5])]
    fn echo(bencher: Bencher<'_, '_>, size: (usize, usize)) {
        let body = body(size);
        bencher.counter(BytesCount::of_slice(&body)).bench_local(|| {
            let mut ws = WebSocket::new(
                fanout_edge::grip::Signed::unverified(u64::MAX),
                &[("connection-id", "c1")],
                black_box(&body),
            )
            .expect("a valid request");
            while let Some(message) = ws.receive() {
                ws.send(message);
            }
            ws.into_response()
        });
    }

    /// grip-control decodes only one event of a body.
    #[divan::bench(args = [(1, 5), (1, 1024)])]
    fn decode_grip_control(bencher: Bencher<'_, '_>, size: (usize, usize)) {
        let body = body(size);
        bencher
            .counter(BytesCount::of_slice(&body))
            .bench_local(|| black_box(grip_control::parse::WebsocketEvent::parse_frame(black_box(&body)).is_ok()));
    }

    /// grip-control encodes text without a message prefix.
    #[divan::bench(args = [(1, 5), (1, 1024)])]
    fn encode_grip_control(bencher: Bencher<'_, '_>, (_, bytes): (usize, usize)) {
        let content = "x".repeat(bytes);
        let length = grip_control::frames::ws_text(&content).len();
        bencher.counter(BytesCount::new(length)).bench_local(|| grip_control::frames::ws_text(black_box(&content)));
    }
}

fn main() {
    #[cfg(not(target_os = "wasi"))]
    divan::main();
}

//! Recordings: every stream and format, to the end.

use crate::bed::{Line, Recording, bytes, color, content, depth, meta};

#[test]
fn color_comes_out_as_it_was_recorded() {
    let recording = Recording::new("color", &[color(), depth()], 30);
    let line = Line::new(&format!("{} ! appsink name=sink sync=false", recording.source()));
    let samples = line.play().samples("sink");
    assert_eq!(samples.len(), 30);
    for (number, sample) in (0u8..).zip(&samples) {
        assert!(content(sample) == bytes(color(), number), "frame {number}");
        assert_eq!(meta(sample).get::<u64>("frame-number"), Ok(u64::from(number) + 1));
    }
    line.finish();
}

//! Pacing of live streams, files and pipes, and the end of a stream.

use crate::bed::{Line, SERVER, Temporary, byte_stream, wait_until};
use gst::prelude::*;
use std::time::{Duration, Instant};

#[test]
fn a_live_stream_is_not_paced() {
    let line = Line::new(&format!("videotestsrc is-live=true ! x264enc ! h264parse ! queue ! {SERVER}"));
    line.play();
    wait_until("access units arrive", || line.0.by_name("input-video_0").is_some() && line.frames() > 5);
    assert!(!line.input().property::<bool>("sync"));
}

#[test]
fn a_file_without_timestamps_is_paced() {
    let file = Temporary::new("untimed.264");
    for (encoder, rate) in [("x264enc tune=zerolatency", true), ("openh264enc", false)] {
        byte_stream(&file, encoder, 50);
        let line = Line::new(&format!("filesrc location={} ! h264parse ! {SERVER}", file.path()));
        let start = Instant::now();
        line.play();
        let mut warned = false;
        loop {
            let all = [gst::MessageType::Eos, gst::MessageType::Error, gst::MessageType::Warning];
            match line.wait(&all).view() {
                gst::MessageView::Eos(_) => break,
                gst::MessageView::Warning(warning) => {
                    let text = warning.error().to_string();
                    assert!(text.contains("frame rate"), "{encoder}: {text}");
                    warned = true;
                }
                other => panic!("{encoder}: {other:?}"),
            }
        }
        assert!(start.elapsed() >= Duration::from_millis(1900), "{encoder}: {:?}", start.elapsed());
        assert_eq!(warned, !rate, "{encoder}: a stream that declares its frame rate causes no warning");
    }
    // The caps can declare the frame rate.
    let rate = "capssetter join=true caps=video/x-h264,framerate=50/1";
    let line = Line::new(&format!("filesrc location={} ! h264parse ! {rate} ! {SERVER}", file.path()));
    let start = Instant::now();
    let end = line.play().wait(&[gst::MessageType::Eos, gst::MessageType::Error, gst::MessageType::Warning]);
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
    assert!(start.elapsed() >= Duration::from_millis(950), "{:?}", start.elapsed());
}

#[test]
fn a_camera_in_a_pipe_is_not_delayed_although_it_is_faster_than_it_declares() {
    use std::{io::Write, os::fd::AsRawFd};
    let file = Temporary::new("camera.264");
    byte_stream(&file, "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30", 180);
    let reader = Line::new(&format!(
        "filesrc location={} ! h264parse ! video/x-h264,stream-format=byte-stream,alignment=au ! appsink name=a sync=false",
        file.path()
    ));
    reader.play();
    let sink = reader.0.by_name("a").unwrap();
    let units: Vec<Vec<u8>> = std::iter::from_fn(|| {
        let sample = sink.emit_by_name::<Option<gst::Sample>>("pull-sample", &[])?;
        Some(sample.buffer().unwrap().map_readable().unwrap().to_vec())
    })
    .collect();
    assert_eq!(units.len(), 180);

    let (output, mut input) = std::io::pipe().unwrap();
    let line = Line::new(&format!("fdsrc fd={} ! h264parse ! {SERVER}", output.as_raw_fd()));
    line.play();
    let start = Instant::now();
    let camera = std::thread::spawn(move || {
        // 60 pictures per second, although the stream declares 25.
        let mut due = Instant::now();
        for unit in units {
            input.write_all(&unit).unwrap();
            due += Duration::from_micros(16_667);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    });
    wait_until("all pictures are sent", || line.frames() >= 178);
    let took = start.elapsed();
    camera.join().unwrap();
    assert!(took < Duration::from_secs(180 / 25 - 1), "{took:?}: the stream was paced at the declared rate");
}

#[test]
fn a_stream_without_data_ends() {
    let line = Line::new(&format!("videotestsrc num-buffers=0 ! x264enc ! {SERVER}"));
    line.play();
    let end = line.wait(&[gst::MessageType::Eos, gst::MessageType::Error]);
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
}

#[test]
fn data_may_follow_an_eos_that_preceded_all_data() {
    let line = Line::new(&format!("appsrc name=a is-live=true format=time ! identity name=i ! {SERVER}"));
    line.play();
    let output = line.0.by_name("i").unwrap().static_pad("src").unwrap();
    let source = line.0.by_name("a").unwrap().downcast::<gst_app::AppSrc>().unwrap();
    assert!(output.push_event(gst::event::StreamStart::new("nothing")));
    assert!(output.push_event(gst::event::Eos::new()));
    line.wait(&[gst::MessageType::Eos]);
    // A flush cancels the EOS without a change of state.
    assert!(output.push_event(gst::event::FlushStart::new()));
    assert!(output.push_event(gst::event::FlushStop::new(true)));
    source.set_caps(Some(&"video/x-vp8,width=2,height=2,framerate=30/1".parse().unwrap()));
    wait_until("access units arrive", || {
        let mut buffer = gst::Buffer::from_slice([0_u8; 10]);
        buffer.make_mut().set_pts(gst::ClockTime::ZERO);
        source.push_buffer(buffer).unwrap();
        line.frames() > 5
    });
    assert!(line.0.bus().unwrap().pop_filtered(&[gst::MessageType::Error]).is_none());
}

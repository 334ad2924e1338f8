//! Recordings: formats, metadata, processing, alignment, end of stream, loops and real time.

use crate::bed::{
    HEIGHT, Recording, Schedule, TestPipeline, WIDTH, bytes, color, content, depth, gray, memory, meta,
    millimeters, video,
};
use gst::prelude::*;
use gstrealsense::software::{Imager, Pixels, Stream};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

#[test]
fn every_color_format_is_delivered_as_recorded() {
    for (pixels, format) in [
        (Pixels::Yuyv, "YUY2"),
        (Pixels::Uyvy, "UYVY"),
        (Pixels::Rgb8, "RGB"),
        (Pixels::Bgr8, "BGR"),
        (Pixels::Rgba8, "RGBA"),
        (Pixels::Bgra8, "BGRA"),
    ] {
        let stream = video(Imager::Color, pixels);
        let recording = Recording::new(format, &[stream, depth()], 10);
        let line = TestPipeline::new(&format!("{} ! appsink name=sink sync=false", recording.source()));
        let samples = line.play().samples("sink");
        assert_eq!(samples.len(), 10, "{format}");
        for (number, sample) in (0u8..).zip(&samples) {
            assert!(content(sample) == bytes(stream, number), "{format} frame {number}");
            let caps = sample.caps().unwrap().structure(0).unwrap();
            assert_eq!(caps.get::<&str>("format"), Ok(format));
            assert_eq!(caps.get::<gst::Fraction>("framerate"), Ok(gst::Fraction::new(30, 1)));
        }
    }
}

#[test]
fn depth_infrared_and_motion_have_pads_of_their_own_and_equal_times() {
    let (left, right) = (video(Imager::Infrared(1), Pixels::Y8), video(Imager::Infrared(2), Pixels::Y8));
    let streams = [color(), depth(), left, right, Stream::Gyro(200), Stream::Accel(100)];
    let recording = Recording::new("all", &streams, 20);
    let line = TestPipeline::new(&format!(
        "{} camera.color ! queue ! appsink name=color sync=false  camera.depth ! queue ! appsink name=depth sync=false \
         camera.infrared_1 ! queue ! appsink name=left sync=false  camera.infrared_2 ! queue ! appsink name=right sync=false \
         camera.motion ! queue max-size-buffers=0 ! appsink name=motion sync=false",
        recording.source()
    ));
    line.play();
    let pictures = [("color", color()), ("depth", depth()), ("left", left), ("right", right)];
    let mut times = Vec::new();
    for (sink, stream) in pictures {
        let samples = line.samples(sink);
        assert_eq!(samples.len(), 20, "{sink}");
        for (number, sample) in (0u8..).zip(&samples) {
            assert!(content(sample) == bytes(stream, number), "{sink} frame {number}");
        }
        times.push(samples.iter().map(|sample| sample.buffer().unwrap().pts()).collect::<Vec<_>>());
    }
    // Frames that were captured at the same time have the same PTS.
    assert!(times.iter().all(|of_one| *of_one == times[0]), "{times:?}");
    let groups = pictures.map(|(sink, _)| {
        let pad = line.0.by_name(sink).unwrap().static_pad("sink").unwrap();
        pad.sticky_event::<gst::event::StreamStart>(0).unwrap().group_id()
    });
    assert!(groups[0].is_some() && groups.iter().all(|group| *group == groups[0]), "{groups:?}");
    let motion = line.samples("motion");
    assert_eq!(motion.len(), 40);
    let caps = motion[0].caps().unwrap().to_string();
    assert!(caps.contains("accel-rate=(int)100") && caps.contains("gyro-rate=(int)200"), "{caps}");
    for sensor in [0u8, 1] {
        let of_one: Vec<_> =
            motion.iter().map(content).filter(|sample| sample[12..] == [sensor, 0, 0, 0]).collect();
        assert_eq!(of_one.len(), 20);
        for (number, sample) in (0u8..).zip(&of_one) {
            let floats: Vec<_> =
                sample[..12].chunks(4).map(|float| f32::from_le_bytes(float.try_into().unwrap())).collect();
            let first = if sensor == 1 { f32::from(number) } else { 9.81 };
            assert_eq!(floats, [first, f32::from(number), -1.5]);
        }
    }
    line.finish();
}

#[test]
fn video_is_converted_to_the_format_that_downstream_accepts() {
    let recording = Recording::new("converted", &[color(), depth()], 5);
    for format in ["I420", "NV12", "GRAY8", "RGB", "BGR", "RGBA"] {
        let line = TestPipeline::new(&format!(
            "{} ! video/x-raw,format={format} ! appsink name=sink sync=false",
            recording.source()
        ));
        let samples = line.play().samples("sink");
        assert_eq!(samples.len(), 5, "{format}");
        let info = gst_video::VideoInfo::from_caps(samples[0].caps().unwrap()).unwrap();
        let stride = usize::try_from(info.stride()[0]).unwrap();
        for y in 0..HEIGHT {
            let recorded = f64::from(gray(y, 4));
            // Luma has limited range, RGB has full range.
            let full = ((recorded - 16.0) * 255.0 / 219.0).clamp(0.0, 255.0);
            let expected = if ["I420", "NV12", "GRAY8"].contains(&format) { recorded } else { full };
            let found = content(&samples[4])[usize::from(y) * stride];
            assert!((f64::from(found) - expected).abs() <= 4.0, "{format} row {y}: {found}, not {expected}");
        }
    }
}

#[test]
fn x264enc_can_be_linked_directly() {
    let recording = Recording::new("x264", &[color(), depth()], 10);
    let line =
        TestPipeline::new(&format!("{} ! x264enc name=x ! appsink name=sink sync=false", recording.source()));
    assert_eq!(line.play().samples("sink").len(), 10);
    let caps = line.0.by_name("x").unwrap().static_pad("sink").unwrap().current_caps().unwrap();
    assert_eq!(caps.structure(0).unwrap().get::<&str>("format"), Ok("I420"));
}

#[test]
fn buffers_carry_the_metadata_of_their_frames() {
    let recording = Recording::new("meta", &[color(), depth()], 3);
    let line =
        TestPipeline::new(&format!("{} stream=depth ! appsink name=sink sync=false", recording.source()));
    let samples = line.play().samples("sink");
    let meta = meta(&samples[1]);
    assert_eq!(meta.get::<&str>("stream"), Ok("depth"));
    assert_eq!(meta.get::<u64>("frame-number"), Ok(2));
    assert_eq!(meta.get::<i64>("exposure"), Ok(8500));
    assert_eq!(meta.get::<i64>("gain"), Ok(16));
    assert_eq!(meta.get::<f64>("depth-units"), Ok(0.001));
    assert_eq!((meta.get::<i32>("width"), meta.get::<i32>("height")), (Ok(WIDTH.into()), Ok(HEIGHT.into())));
    assert_eq!((meta.get::<f64>("fx"), meta.get::<f64>("ppx")), (Ok(64.0), Ok(32.0)));
    assert!(meta.get::<&str>("distortion").unwrap().contains("Brown"));
    assert_eq!(meta.get::<f64>("coeff-4"), Ok(0.0));
    let buffer = samples[1].buffer().unwrap();
    let reference = buffer.meta::<gst::ReferenceTimestampMeta>().unwrap();
    assert_eq!(reference.reference().to_string(), "timestamp/x-realsense, domain=(string)hardware-clock");
    assert_eq!(reference.timestamp().mseconds(), 5033);
    assert_eq!(buffer.duration(), Some(gst::ClockTime::from_nseconds(33_333_333)));
}

#[test]
fn filters_change_depth_as_documented() {
    let recording = Recording::new("filters", &[color(), depth()], 5);
    let pixels = |setting: &str, width: u16| {
        let line = TestPipeline::new(&format!(
            "{} stream=depth {setting} ! video/x-raw,format=GRAY16_LE,width={width} ! appsink name=sink sync=false",
            recording.source()
        ));
        let samples = line.play().samples("sink");
        assert_eq!(samples.len(), 5, "{setting}");
        content(&samples[4])
            .chunks(2)
            .map(|pixel| u16::from_le_bytes([pixel[0], pixel[1]]))
            .collect::<Vec<_>>()
    };
    let hole = usize::from(HEIGHT / 2 * WIDTH + WIDTH / 2);
    let plain = pixels("", WIDTH);
    assert_eq!((plain[0], plain[hole]), (millimeters(0, 0, 4), 0));
    let near = pixels("threshold=\"<0.1, 1.0>\"", WIDTH);
    for (before, after) in plain.iter().zip(&near) {
        assert_eq!(*after, if *before <= 1000 { *before } else { 0 });
    }
    assert_eq!(pixels("decimation=2", WIDTH / 2).len(), plain.len() / 4);
    assert_ne!(pixels("hole-filling=farthest-from-around", WIDTH)[hole], 0);
    assert!(pixels("spatial=true", WIDTH) != plain);
    assert!(pixels("temporal=true", WIDTH) != plain);
}

#[test]
fn depth_can_be_colored() {
    let recording = Recording::new("colors", &[color(), depth()], 5);
    let line = TestPipeline::new(&format!(
        "{} stream=depth colorize=true ! video/x-raw,format=RGB ! appsink name=sink sync=false",
        recording.source()
    ));
    let samples = line.play().samples("sink");
    assert_eq!(samples.len(), 5);
    let picture = content(&samples[4]);
    let pixel = |x: u16, y: u16| &picture[3 * usize::from(y * WIDTH + x)..][..3];
    assert_eq!(pixel(WIDTH / 2, HEIGHT / 2), [0, 0, 0], "the hole is black");
    assert_ne!(pixel(0, 0), pixel(0, HEIGHT - 1), "near and far differ");
    assert_eq!(meta(&samples[4]).get::<f64>("depth-units"), Ok(0.001));
}

#[test]
fn aligned_depth_has_the_size_of_color_and_is_shifted_by_the_baseline() {
    let color =
        Stream::Video { imager: Imager::Color, pixels: Pixels::Yuyv, width: 128, height: 96, rate: 30 };
    let recording = Recording::new("aligned", &[color, depth()], 5);
    let line = TestPipeline::new(&format!(
        "{} align=color camera.depth ! queue ! appsink name=depth sync=false camera.color ! queue ! appsink name=color sync=false",
        recording.source()
    ));
    line.play();
    let aligned = line.samples("depth");
    assert!(aligned.len() >= 4, "{}", aligned.len());
    let caps = aligned[0].caps().unwrap().structure(0).unwrap();
    assert_eq!((caps.get::<i32>("width"), caps.get::<i32>("height")), (Ok(128), Ok(96)));
    assert_eq!(meta(&aligned[0]).get::<f64>("fx"), Ok(128.0));
    // At 0.5 m to 2.5 m, 15 mm are a few pixels. The left edge is visible to the color imager only.
    let picture = content(&aligned[0]);
    let row = &picture[40 * 256..41 * 256];
    assert_eq!(row[..2], [0, 0]);
    assert_ne!(row[128..130], [0, 0]);
    assert_eq!(line.samples("color").len(), 5);
}

#[test]
fn aligned_color_has_the_size_of_depth() {
    let color =
        Stream::Video { imager: Imager::Color, pixels: Pixels::Yuyv, width: 128, height: 96, rate: 30 };
    let recording = Recording::new("aligned-color", &[color, depth()], 5);
    let line = TestPipeline::new(&format!(
        "{} align=depth ! appsink name=color sync=false camera.depth ! appsink name=depth sync=false",
        recording.source()
    ));
    line.play();
    let aligned = line.samples("color");
    assert!(aligned.len() >= 4, "{}", aligned.len());
    let caps = aligned[0].caps().unwrap().structure(0).unwrap();
    assert_eq!((caps.get::<i32>("width"), caps.get::<i32>("height")), (Ok(64), Ok(48)));
    let found = meta(&aligned[0]);
    assert_eq!((found.get::<&str>("stream"), found.get::<f64>("fx")), (Ok("color"), Ok(64.0)));
    assert_eq!(line.samples("depth").len(), 5);
}

/// The muxer accepts no depth while it waits for color, which has ended long before.
#[test]
fn a_stream_that_ends_early_does_not_stop_the_others() {
    let recording =
        Recording::with("early", &[color(), depth()], &[Schedule::frames(5), Schedule::frames(300)]);
    let line = TestPipeline::new(&format!(
        "{} colorize=true matroskamux name=mux ! appsink name=sink sync=false \
         camera.src ! queue max-size-buffers=5 ! mux. camera.depth ! queue max-size-buffers=5 ! mux.",
        recording.source()
    ));
    line.play();
    assert!(!line.samples("sink").is_empty());
    line.finish();
}

/// The test consumes the streams like a muxer: always the earliest frame, as soon as it has one of each stream. While
/// infrared pauses, downstream therefore accepts no frame of the other streams.
#[test]
fn a_stream_that_pauses_and_resumes_keeps_its_alignment_to_the_others() {
    let streams = [color(), depth(), video(Imager::Infrared(1), Pixels::Y8)];
    let pausing = Schedule { pause: 10..40, ..Schedule::frames(60) };
    let recording =
        Recording::with("pauses", &streams, &[Schedule::frames(60), Schedule::frames(60), pausing]);
    let line = TestPipeline::new(&format!(
        "{} align=color camera.color ! appsink name=color sync=false max-buffers=1 \
         camera.depth ! appsink name=depth sync=false max-buffers=1 \
         camera.infrared_1 ! appsink name=infrared sync=false max-buffers=1",
        recording.source()
    ));
    line.play();
    let sinks = ["color", "depth", "infrared"];
    // The PTS of each frame, by its number.
    let mut times = sinks.map(|_| BTreeMap::new());
    let mut heads = sinks.map(|sink| line.sample(sink));
    let pts = |sample: &gst::Sample| sample.buffer().unwrap().pts().unwrap();
    while let Some((next, _)) = heads
        .iter()
        .enumerate()
        .filter_map(|(index, head)| Some((index, pts(head.as_ref()?))))
        .min_by_key(|(_, pts)| *pts)
    {
        let sample = heads[next].take().unwrap();
        times[next].insert(meta(&sample).get::<u64>("frame-number").unwrap(), pts(&sample));
        heads[next] = line.sample(sinks[next]);
    }
    let [color, depth, infrared] = times;
    assert_eq!((color.len(), infrared.len()), (60, 30));
    assert!(depth.len() >= 58, "{} of 60 aligned frames", depth.len());
    for (number, pts) in depth.iter().chain(&infrared) {
        assert_eq!(color.get(number), Some(pts), "frame {number}");
    }
    line.finish();
}

/// 160 frames of 1.8 MB exceed the limit of what the queues hold for a starved stream.
#[test]
fn a_starved_stream_ends_before_the_others_exhaust_the_memory() {
    let large =
        Stream::Video { imager: Imager::Depth, pixels: Pixels::Z16, width: 1280, height: 720, rate: 30 };
    let recording = Recording::with("full", &[color(), large], &[Schedule::frames(5), Schedule::frames(160)]);
    let line = TestPipeline::new(&format!(
        "{} matroskamux name=mux ! fakesink sync=false camera.src ! queue max-size-buffers=5 ! mux. \
         camera.depth ! queue max-size-buffers=5 ! videoconvert ! video/x-raw,format=GRAY8 ! mux.",
        recording.source()
    ));
    line.play();
    let warning = match line.wait(&[gst::MessageType::Warning, gst::MessageType::Error]).view() {
        gst::MessageView::Warning(warning) => warning.error().to_string(),
        other => panic!("{other:?}"),
    };
    assert!(warning.contains("color ends here"), "{warning}");
    line.finish();
}

#[test]
fn streams_of_two_clocks_are_aligned_by_arrival_with_a_warning() {
    let recording = Recording::with(
        "clocks",
        &[color(), depth()],
        &[Schedule { host_time: true, ..Schedule::frames(30) }, Schedule::frames(30)],
    );
    let line = TestPipeline::new(&format!(
        "{} align=color camera.depth ! queue ! appsink name=depth sync=false \
         camera.color ! queue ! appsink name=color sync=false",
        recording.source()
    ));
    line.play();
    let warning = match line.wait(&[gst::MessageType::Warning, gst::MessageType::Error]).view() {
        gst::MessageView::Warning(warning) => warning.error().to_string(),
        other => panic!("{other:?}"),
    };
    assert!(warning.contains("color: system-time") && warning.contains("hardware-clock"), "{warning}");
    let aligned = line.samples("depth");
    assert!(aligned.len() >= 20, "{}", aligned.len());
    // Both streams start at zero, although their clocks differ.
    let last = |samples: &[gst::Sample]| samples.last().unwrap().buffer().unwrap().pts().unwrap();
    let (depth, color) = (last(&aligned), last(&line.samples("color")));
    assert!(
        depth < gst::ClockTime::from_seconds(2) && color < gst::ClockTime::from_seconds(2),
        "{depth} {color}"
    );
}

#[test]
fn every_frame_is_aligned_to_a_slower_stream() {
    let slow = Stream::Video { imager: Imager::Color, pixels: Pixels::Yuyv, width: 64, height: 48, rate: 15 };
    let recording = Recording::with(
        "rates",
        &[slow, depth()],
        &[Schedule { every: 2, ..Schedule::frames(10) }, Schedule::frames(20)],
    );
    let line = TestPipeline::new(&format!(
        "{} align=color camera.depth ! queue ! appsink name=depth sync=false \
         camera.color ! queue ! appsink name=color sync=false",
        recording.source()
    ));
    line.play();
    let aligned = line.samples("depth");
    assert!(aligned.len() >= 18, "{} of 20", aligned.len());
    assert_eq!(line.samples("color").len(), 10);
}

#[test]
fn times_rise_across_loops_and_no_frame_is_lost() {
    let recording = Recording::new("loop", &[color(), depth()], 10);
    let line = TestPipeline::new(&format!(
        "{} loop=true camera.color ! queue ! appsink name=color sync=false camera.depth ! queue ! appsink name=depth sync=false",
        recording.source()
    ));
    line.play();
    for sink in ["color", "depth"] {
        let samples: Vec<_> = (0..35).map(|_| line.sample(sink).unwrap()).collect();
        let numbers: Vec<_> =
            samples.iter().map(|sample| meta(sample).get::<u64>("frame-number").unwrap()).collect();
        assert_eq!(numbers, (0..35).map(|number| number % 10 + 1).collect::<Vec<_>>(), "{sink}");
        let times: Vec<_> = samples.iter().map(|sample| sample.buffer().unwrap().pts().unwrap()).collect();
        for pair in times.windows(2) {
            let step = (pair[1] - pair[0]).mseconds();
            assert!((30..=37).contains(&step), "{sink}: {step} ms in {times:?}");
        }
    }
}

#[test]
fn a_recording_in_real_time_is_a_live_source_that_loops_on_the_clock() {
    let recording = Recording::new("live", &[color(), depth()], 10);
    let line = TestPipeline::new(&format!(
        "{} real-time=true loop=true ! appsink name=sink sync=false",
        recording.source()
    ));
    assert_eq!(line.0.set_state(gst::State::Paused), Ok(gst::StateChangeSuccess::NoPreroll));
    line.play();
    let mut last = gst::ClockTime::ZERO;
    for _ in 0..35 {
        let sample = line.sample("sink").unwrap();
        let pts = sample.buffer().unwrap().pts().unwrap();
        assert!(pts > last || last.is_zero(), "{pts} after {last}");
        assert!(pts <= line.0.current_running_time().unwrap(), "{pts} is in the future");
        last = pts;
    }
    let mut query = gst::query::Latency::new();
    assert!(line.camera().static_pad("src").unwrap().query(&mut query));
    assert_eq!((query.result().0, query.result().1.mseconds()), (true, 33));
    // The loops take as long as the recording did: 35 frames are three and a half loops.
    assert!(last > gst::ClockTime::from_mseconds(900), "{last}");
}

#[test]
fn a_long_recording_in_real_time_loops_without_a_gap() {
    let recording = Recording::new("far", &[color()], 32);
    let line = TestPipeline::new(&format!(
        "{} real-time=true loop=true ! appsink name=sink sync=false",
        recording.source()
    ));
    line.play();
    let arrivals: Vec<_> = (0..70)
        .map(|_| {
            line.sample("sink").unwrap();
            Instant::now()
        })
        .collect();
    // A check once a second would be visible.
    let longest = arrivals.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(longest < Duration::from_millis(200), "{longest:?}");
}

#[test]
fn a_recording_is_not_seekable() {
    let recording = Recording::new("seek", &[color(), depth()], 10);
    let line = TestPipeline::new(&format!("{} ! appsink name=sink sync=false", recording.source()));
    line.play().sample("sink");
    assert!(line.0.seek_simple(gst::SeekFlags::FLUSH, gst::ClockTime::ZERO).is_err());
    let mut query = gst::query::Seeking::new(gst::Format::Time);
    assert!(line.camera().static_pad("src").unwrap().query(&mut query));
    assert!(!query.result().0);
}

#[test]
fn a_blocked_downstream_holds_back_the_recording() {
    let large =
        Stream::Video { imager: Imager::Color, pixels: Pixels::Yuyv, width: 1280, height: 720, rate: 30 };
    let recording = Recording::new("held", &[large], 3);
    let line = TestPipeline::new(&format!(
        "{} loop=true ! appsink name=sink sync=false max-buffers=1",
        recording.source()
    ));
    line.play().sample("sink").unwrap();
    let before = memory();
    std::thread::sleep(Duration::from_millis(500));
    assert!(memory() < before + 65536, "{before} to {} kB", memory());
}

#[test]
fn an_eos_event_ends_a_looped_recording() {
    let recording = Recording::new("eos", &[color(), depth()], 10);
    let line = TestPipeline::new(&format!(
        "{} real-time=true loop=true ! appsink name=sink sync=false",
        recording.source()
    ));
    line.play().sample("sink");
    assert!(line.0.send_event(gst::event::Eos::new()));
    line.samples("sink");
    line.finish();
}

mod ffmpeg;
mod payloads;

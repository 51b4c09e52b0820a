"""The speech server: any voices of Parley over WebSocket and OpenAI's speech API.

    parley-speech serve --voice espeak

`protocol` is what goes over the WebSocket, `app` the HTTP surface, `main` the command.
The client is `parley_speech.remote.RemoteSynthesizer`. See docs/speech-server.md.
"""

"""Speak one text with the packaged espeak-ng library: text in, raw samples out.

``python espeak.py VOICE WORDS_PER_MINUTE < text > samples`` writes signed 16-bit mono samples in
the machine's byte order at 22,050 Hz. It is a program of its own because the library keeps state
between texts (pitch flutter, gain, noise) that no call resets: only a fresh process says the same
text with the same samples. It imports no array library: ``time echo "Heat some oil." | python
espeak.py en-us 150`` takes 0.06 s.
"""

import ctypes
import sys

SAMPLE_RATE = 22_050

# Values of espeak-ng's public headers, espeak_ng.h and speak_lib.h.
_OUTPUT_SYNCHRONOUS = 1
_RATE_PARAMETER = 1
_POSITION_CHARACTER = 1
_CHARS_UTF8 = 1

_SynthCallback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


def synthesise(text: str, voice: str, words_per_minute: int) -> bytes:
    """Speak a text; call it once in the life of a process.

    Args:
        text: what to say.
        voice: an espeak-ng voice, e.g. ``en-us``, ``en-us+f3`` or ``fr``.
        words_per_minute: speaking rate; the library takes 80 for anything slower.

    Returns:
        Signed 16-bit mono samples in the machine's byte order at ``SAMPLE_RATE``.

    Raises:
        ModuleNotFoundError: the package ``espeakng-loader`` is not installed.
        RuntimeError: the library refused its data, the voice or the text.
    """
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    # The wheel remembers a folder of the machine that built it, so the data must be pointed at. The
    # library holds that path in 160 bytes and, when it is longer, looks in the remembered folder.
    data = str(espeakng_loader.get_data_path())
    library.espeak_ng_InitializePath(data.encode())
    if library.espeak_ng_Initialize(None) != 0:
        raise RuntimeError(
            f"espeak-ng cannot read its data in {data}; "
            "if that path is longer than 159 characters, install espeakng-loader somewhere shorter"
        )
    library.espeak_ng_InitializeOutput(_OUTPUT_SYNCHRONOUS, 0, None)
    if library.espeak_ng_GetSampleRate() != SAMPLE_RATE:
        raise RuntimeError(f"espeak-ng does not speak at {SAMPLE_RATE} Hz")
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise RuntimeError(f"espeak-ng has no voice {voice!r}; 'en-us' is one it has")
    library.espeak_SetParameter(_RATE_PARAMETER, words_per_minute, 0)

    samples = bytearray()

    def collect(block: "ctypes._Pointer[ctypes.c_short]", count: int, _events: int) -> int:
        if count > 0:
            samples.extend(ctypes.string_at(block, 2 * count))
        return 0

    callback = _SynthCallback(collect)
    library.espeak_SetSynthCallback(callback)
    library.espeak_ng_SetRandSeed(1)  # it starts from the time of day
    encoded = text.encode()
    status = library.espeak_Synth(
        encoded, len(encoded) + 1, 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None
    )
    if status != 0:
        raise RuntimeError(f"espeak-ng could not speak {text!r}: status {status}")
    return bytes(samples)


if __name__ == "__main__":
    try:
        spoken = synthesise(sys.stdin.buffer.read().decode(), sys.argv[1], int(sys.argv[2]))
    except (ModuleNotFoundError, RuntimeError) as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(spoken)

#!/bin/sh
# Get what pip cannot bring: Python's venv, FluidSynth and the SoundFonts.  Does nothing where they are there.
set -eu

PYTHON=${PYTHON:-python3}
FOLDERS="$(printf %s "${DDSLIB_SOUNDFONTS:-}" | tr : ' ') /usr/share/sounds/sf2 /usr/share/sounds/sf3 /usr/share/soundfonts"

has_font() {
    for folder in $FOLDERS; do
        [ -f "$folder/$1" ] && return 0
    done
    return 1
}

missing=""
"$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
"$PYTHON" -c 'import ctypes.util, sys; sys.exit(not ctypes.util.find_library("fluidsynth"))' ||
    missing="$missing libfluidsynth3"
has_font FluidR3_GM.sf2 || missing="$missing fluid-soundfont-gm"
has_font FluidR3Mono_GM.sf3 || missing="$missing fluidr3mono-gm-soundfont"
has_font sf_GMbank.sf2 || missing="$missing csound-soundfont"
has_font MuseScore_General_Full.sf3 || missing="$missing musescore-general-soundfont"
[ -n "$missing" ] || exit 0

root=""
[ "$(id -u)" = 0 ] || root=sudo
if ! command -v apt-get >/dev/null || { [ -n "$root" ] && ! command -v sudo >/dev/null; }; then
    cat >&2 <<TXT
Missing, and not to be had through apt-get as root or with sudo:$missing
Install these Debian packages or what your system calls them, and run make again.
SoundFonts may lie anywhere: name their folders, separated by colons, in DDSLIB_SOUNDFONTS.
TXT
    exit 1
fi
echo "Installing system packages:$missing"
$root apt-get update -qq
DEBIAN_FRONTEND=noninteractive $root apt-get install -y -qq --no-install-recommends $missing >/dev/null

"""Does a voice that pauses sound as if it had finished?"""

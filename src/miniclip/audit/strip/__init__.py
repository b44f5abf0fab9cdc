"""Copies of image files without what they tell of people, one file a format; pixels stay as stored.

Each keeps what it knows to be needed for the picture and leaves all else out, so that tags that
nobody has heard of yet go too.
"""

"""Before a run: does it fit on these devices, how long does it take, what does it cost?"""

"""Speech with any gptme model: hearing and speaking on this machine."""

// Command groupcache-go is a node of a cluster of two, told what to do by lines on its standard input. It speaks what
// `transport-bench node` speaks (see src/node.rs): without an argument it is the owner; the argument is where the owner listens.
package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/groupcache/groupcache-go/v3"
	"github.com/groupcache/groupcache-go/v3/transport"
	"github.com/groupcache/groupcache-go/v3/transport/peer"
)

const (
	valueBytes = 128
	keyBytes   = 33
	keyCount   = 2048
	firstKey   = 10_000_000
	// Room for all values at the owner. At the asker it is nothing: a group without room looks nothing up and keeps nothing, its cache
	// of other nodes' values included.
	ownerBytes = 64 << 20
	// Go keeps 2 idle connections to a host unless told otherwise, and with more gets in flight dials for most of them.
	connections = 512
)

// loads counts the values that this node's source was asked for.
var loads atomic.Int64

func main() {
	log.SetFlags(0)
	if len(os.Args) > 1 {
		ask(start(0, os.Args[1]))
		return
	}
	group, address := start(ownerBytes, "")
	own(group, address)
}

// start starts a node, which knows of the owner unless it is the owner.
func start(cacheBytes int64, owner string) (groupcache.Group, string) {
	idle := http.DefaultTransport.(*http.Transport).Clone()
	idle.MaxIdleConns, idle.MaxIdleConnsPerHost = connections, connections
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	http1 := transport.NewHttpTransport(transport.HttpTransportOptions{
		Client: &http.Client{Transport: idle},
		Logger: quiet,
	})
	ctx := context.Background()
	node, err := groupcache.ListenAndServe(ctx, "127.0.0.1:0", groupcache.Options{Transport: http1, Logger: quiet})
	check(err)
	value := bytes.Repeat([]byte{7}, valueBytes)
	source := func(_ context.Context, _ string, dest transport.Sink) error {
		loads.Add(1)
		return dest.SetBytes(value, time.Time{})
	}
	group, err := node.GetInstance().NewGroup("values", cacheBytes, groupcache.GetterFunc(source))
	check(err)
	peers := []peer.Info{{Address: node.ListenAddress(), IsSelf: true}}
	if owner != "" {
		peers = append(peers, peer.Info{Address: owner})
	}
	check(node.GetInstance().SetPeers(ctx, peers))
	return group, node.ListenAddress()
}

// own answers every line with the gets served and the values loaded so far. Nobody asks here but the peer.
func own(group groupcache.Group, address string) {
	fmt.Println(address)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		stats := group.GroupStats()
		fmt.Println(stats.Gets.Get(), loads.Load())
	}
}

// ask obeys lines of `IN_FLIGHT MILLISECONDS`.
func ask(group groupcache.Group, _ string) {
	keys := keysOfTheOwner(group)
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var inFlight int
		var milliseconds int64
		_, err := fmt.Sscan(lines.Text(), &inFlight, &milliseconds)
		check(err)
		before := loads.Load()
		gets, took := closedLoop(group, keys, inFlight, time.Duration(milliseconds)*time.Millisecond)
		fmt.Println(gets, took.Nanoseconds(), loads.Load()-before)
	}
}

// keysOfTheOwner finds keys that another node owns: those that were got and not loaded here.
func keysOfTheOwner(group groupcache.Group) []string {
	var keys []string
	for at := firstKey; len(keys) < keyCount; at++ {
		if at == firstKey+64*keyCount {
			log.Fatal("the owner owns too few keys")
		}
		key := fmt.Sprintf("%08d", at) + string(bytes.Repeat([]byte{'k'}, keyBytes-8))
		before := loads.Load()
		get(group, key)
		if loads.Load() == before {
			keys = append(keys, key)
		}
	}
	return keys
}

// closedLoop gets in as many goroutines as gets are in flight, each with keys of its own, so that no get can join another's.
func closedLoop(group groupcache.Group, keys []string, inFlight int, limit time.Duration) (int64, time.Duration) {
	var gets atomic.Int64
	var done sync.WaitGroup
	start := time.Now()
	for first := range inFlight {
		done.Go(func() {
			var count int64
			for at := first; time.Since(start) < limit; at += inFlight {
				if at >= len(keys) {
					at = first
				}
				get(group, keys[at])
				count++
			}
			gets.Add(count)
		})
	}
	done.Wait()
	return gets.Load(), time.Since(start)
}

func get(group groupcache.Group, key string) {
	var value []byte
	check(group.Get(context.Background(), key, transport.AllocatingByteSliceSink(&value)))
	if len(value) != valueBytes {
		log.Fatalf("a value of %d bytes", len(value))
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
